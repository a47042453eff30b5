/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The network driver: pairs of queues, pair i is queue 2i (receive) and 2i + 1
 * (transmit). abi/README.md, "Network", tells the protocol.
 *
 * Two things decide whether frames flow. `ready`: the device's queues are open
 * in this epoch. `running`: its NAPIs are enabled, which needs `ready` and an
 * interface that is up. Both change under RTNL.
 *
 * Locks: RTNL, then nothing of the bus: its callbacks come with the device's
 * lock held and take RTNL inside. What is sent by CONTROL is under `control`.
 */
#ifndef PVKIT_NET_H
#define PVKIT_NET_H

#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <linux/netdevice.h>
#include <linux/u64_stats_sync.h>
#include "pvkit_bus.h"

#define PVKIT_NET_DEPTH 256
/* An Ethernet header with one tag. */
#define PVKIT_NET_HEADERS (ETH_HLEN + VLAN_HLEN)
/* Frames up to this are copied whole, of others the headers. */
#define PVKIT_NET_COPY 256
/* Segments of a frame in memory of the kernel's: the linear part and the fragments. */
#define PVKIT_NET_SEGMENTS (MAX_SKB_FRAGS + 1)
#define PVKIT_NET_LIST_BYTES (PVKIT_NET_SEGMENTS * sizeof(struct pvkit_segment))
/* Chunks of a frame that is copied. */
#define PVKIT_NET_CHUNKS DIV_ROUND_UP(PVKIT_NET_MAX_FRAME, PAGE_SIZE)

/* So many bytes in flight and the host is behind; byte queue limits stay above it. */
#define PVKIT_NET_CROWD (256 * 1024)

struct pvkit_net;

struct pvkit_net_stats {
	u64_stats_t packets;
	u64_stats_t bytes;
	u64_stats_t drops;
	u64_stats_t errors;
	struct u64_stats_sync sync;
};

/* All of it belongs to whoever runs the NAPI; while it is disabled to who holds RTNL. */
struct pvkit_net_rx {
	struct napi_struct napi;
	struct pvkit_net *net;
	struct pvkit_queue *queue;
	u16 index;
	u16 *idle;		/* ids that are not posted */
	u32 idle_count;
	struct page **pages;	/* by id, or: */
	void *buffers;		/* the window's, a page for each id */
	u64 buffers_offset;
	u32 buffers_grant;
	struct timer_list again; /* no memory: try later */
	struct pvkit_net_stats stats;
};

struct pvkit_net_slot {
	struct sk_buff *skb;	/* NULL: its memory is not needed any more */
	u32 bytes;
	bool held;		/* its socket waits for the completion */
	u8 chunk_count;
	u16 chunks[PVKIT_NET_CHUNKS];
};

/* All of it is under the lock of its struct netdev_queue. */
struct pvkit_net_tx {
	struct pvkit_net *net;
	struct pvkit_queue *queue;
	struct netdev_queue *txq;
	u16 index;
	bool watched;		/* an interrupt comes at completion `watched_at` */
	u32 watched_at;
	u32 bytes;		/* in flight */
	u32 held;		/* slots */
	u16 *free;		/* ids */
	u32 free_count;
	struct pvkit_net_slot *slots;
	void *lists;		/* of segments, by id */
	u64 lists_offset;
	u32 lists_grant;
	u32 chunks_grant;
	void *chunks;		/* where frames are copied to */
	u64 chunks_offset;
	u16 *free_chunks;
	u32 free_chunk_count;
	struct timer_list lazy;	/* reclaims what nobody waits for */
	struct napi_struct napi;
	struct pvkit_net_stats stats;
};

struct pvkit_net {
	struct net_device *dev;
	struct pvkit_device *device;
	u64 features;		/* chosen */
	u32 depth;
	u32 buffer_bytes;	/* of a receive buffer */
	u32 max_frame;		/* that is sent */
	u32 chunk_bytes;
	u32 chunk_count;	/* of a queue */
	u32 frame_chunks;	/* of the largest frame */
	u16 pairs;
	u16 mtu;		/* the link's: fixed */
	u32 speed;
	bool copies;		/* frames are sent from memory of pvkit_alloc() */
	bool ready;
	bool running;
	struct pvkit_net_rx *rx;
	struct pvkit_net_tx *tx;

	struct mutex control;		/* control messages, and what is set by them */
	struct work_struct mode_work;
	struct work_struct announce_work;
	struct pvkit_rss rss;
};

static inline bool pvkit_net_has(const struct pvkit_net *net, u64 feature)
{
	return net->features & feature;
}

static inline void pvkit_net_count(struct pvkit_net_stats *stats, u64_stats_t *what)
{
	u64_stats_update_begin(&stats->sync);
	u64_stats_inc(what);
	u64_stats_update_end(&stats->sync);
}

/* net_rx.c */
int pvkit_net_rx_create(struct pvkit_net_rx *rx);
void pvkit_net_rx_destroy(struct pvkit_net_rx *rx);
int pvkit_net_rx_connect(struct pvkit_net_rx *rx);
void pvkit_net_rx_disconnected(struct pvkit_net_rx *rx);
void pvkit_net_rx_start(struct pvkit_net_rx *rx);
void pvkit_net_rx_stop(struct pvkit_net_rx *rx);

/* net_meta.c */
bool pvkit_net_describe(const struct sk_buff *skb, u64 *meta);
bool pvkit_net_believe(const struct pvkit_net *net, struct sk_buff *skb, u64 meta, u64 hash);

/* net_tx.c */
netdev_tx_t pvkit_net_xmit(struct sk_buff *skb, struct net_device *dev);
void pvkit_net_tx_clean(struct pvkit_net_tx *tx, int budget);
int pvkit_net_tx_poll(struct napi_struct *napi, int budget);
void pvkit_net_tx_timer(struct timer_list *timer);

/* net_slots.c */
int pvkit_net_tx_create(struct pvkit_net_tx *tx);
void pvkit_net_tx_destroy(struct pvkit_net_tx *tx);
int pvkit_net_tx_connect(struct pvkit_net_tx *tx);
void pvkit_net_tx_disconnected(struct pvkit_net_tx *tx);
void pvkit_net_tx_start(struct pvkit_net_tx *tx);
void pvkit_net_tx_stop(struct pvkit_net_tx *tx);
int pvkit_net_slot_fill(struct pvkit_net_tx *tx, u16 id, struct sk_buff *skb,
			struct pvkit_segment *place);
void pvkit_net_slot_release(struct pvkit_net_tx *tx, u16 id, int budget);

/* net_control.c */
void pvkit_net_control_init(struct pvkit_net *net);
void pvkit_net_control_end(struct pvkit_net *net);
void pvkit_net_control_again(struct pvkit_net *net);
void pvkit_net_set_rx_mode(struct net_device *dev);
int pvkit_net_set_rss(struct pvkit_net *net, const struct pvkit_rss *rss);

/* net_ethtool.c */
extern const struct ethtool_ops pvkit_net_ethtool_ops;

#endif
