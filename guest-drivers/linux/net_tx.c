// SPDX-License-Identifier: GPL-2.0
/*
 * Frames out, with few interrupts. Completions are taken by the way: by the
 * next frame when many are in flight, and by the pair's receive NAPI. As long as
 * little is in flight nobody waits for a completion: a frame is taken out of its
 * socket's account when it is queued, and a lazy timer frees what the last ones
 * left. When much is in flight (the queue is crowded) frames stay in the account
 * of their sockets, which is what holds senders back, and an interrupt comes
 * when three quarters of what is in flight are done.
 */
#include "net.h"

#define LAZY (HZ / 10)

static u32 in_flight(const struct pvkit_net_tx *tx)
{
	return tx->net->depth - READ_ONCE(tx->free_count);
}

static bool is_crowded(const struct pvkit_net_tx *tx)
{
	return in_flight(tx) >= tx->net->depth / 4 || tx->bytes >= PVKIT_NET_CROWD;
}

static bool has_room(const struct pvkit_net_tx *tx, u32 frames)
{
	return tx->free_count >= frames &&
	       (!tx->chunks || tx->free_chunk_count >= tx->net->frame_chunks);
}

static void reclaim(struct pvkit_net_tx *tx, int budget)
{
	struct pvkit_net_stats *stats = &tx->stats;
	struct pvkit_completion completion;
	u32 packets = 0, bytes = 0;

	while (pvkit_queue_pop(tx->queue, &completion)) {
		packets++;
		bytes += tx->slots[completion.id].bytes;
		if (unlikely(completion.status != PVKIT_STATUS_OK))
			pvkit_net_count(stats, &stats->errors);
		pvkit_net_slot_release(tx, completion.id, budget);
	}
	if (!packets)
		return;
	netdev_tx_completed_queue(tx->txq, packets, bytes);
	if (netif_tx_queue_stopped(tx->txq) && has_room(tx, max(tx->net->depth / 4, 1U)))
		netif_tx_wake_queue(tx->txq);
}

/* Sees to it that an interrupt comes if someone waits for completions. */
static void watch(struct pvkit_net_tx *tx, int budget)
{
	u32 tail;

	while (in_flight(tx) && (tx->held || netif_xmit_stopped(tx->txq))) {
		tail = tx->queue->completions.tail;
		if (tx->watched && tx->watched_at - tail < in_flight(tx))
			return;
		tx->watched = true;
		tx->watched_at = tail + in_flight(tx) * 3 / 4;
		if (!pvkit_queue_arm(tx->queue, tx->watched_at - tail))
			return;
		reclaim(tx, budget);
	}
}

/* Under the lock of the queue. */
static void clean(struct pvkit_net_tx *tx, int budget)
{
	reclaim(tx, budget);
	watch(tx, budget);
	if (in_flight(tx) && !timer_pending(&tx->lazy))
		mod_timer(&tx->lazy, jiffies + LAZY);
}

/* By the way: of the receive NAPI. */
void pvkit_net_tx_clean(struct pvkit_net_tx *tx, int budget)
{
	if (!in_flight(tx) || !__netif_tx_trylock(tx->txq))
		return;
	clean(tx, budget);
	__netif_tx_unlock(tx->txq);
}

int pvkit_net_tx_poll(struct napi_struct *napi, int budget)
{
	struct pvkit_net_tx *tx = container_of(napi, struct pvkit_net_tx, napi);

	__netif_tx_lock(tx->txq, smp_processor_id());
	clean(tx, budget);
	__netif_tx_unlock(tx->txq);
	/* An interrupt since it was armed makes the NAPI run again. */
	napi_complete_done(napi, 0);
	return 0;
}

void pvkit_net_tx_timer(struct timer_list *timer)
{
	struct pvkit_net_tx *tx = container_of(timer, struct pvkit_net_tx, lazy);

	napi_schedule(&tx->napi);
}

/* Nobody waits for this frame: what it holds elsewhere is let go. */
static void let_go(struct pvkit_net_tx *tx, struct pvkit_net_slot *slot, struct sk_buff *skb)
{
	if (tx->chunks) {
		slot->skb = NULL;
		dev_consume_skb_any(skb);
		return;
	}
	skb_orphan(skb);
	nf_reset_ct(skb);
}

static int send(struct pvkit_net_tx *tx, struct sk_buff *skb)
{
	u16 id = tx->free[tx->free_count - 1], count = 0;
	struct pvkit_net_slot *slot = &tx->slots[id];
	struct pvkit_segment place;
	u8 flags = 0;
	u64 meta;
	int ret;

	if (skb->len < ETH_HLEN || skb->len > tx->net->max_frame || !pvkit_net_describe(skb, &meta))
		return -EINVAL;
	ret = pvkit_net_slot_fill(tx, id, skb, &place);
	if (ret < 0)
		return ret;
	if (ret > 1) {
		flags = PVKIT_REQUEST_FLAGS_INDIRECT;
		count = ret;
	}
	tx->free_count--;
	slot->bytes = skb->len;
	slot->held = is_crowded(tx) || skb_zcopy(skb);
	slot->skb = skb;
	tx->bytes += slot->bytes;
	tx->held += slot->held;
	ret = pvkit_queue_push(tx->queue, PVKIT_NET_OP_TRANSMIT, flags, id, count, meta,
			       place.grant | (u64)place.length << 32, place.offset);
	if (ret) {
		slot->skb = NULL;
		pvkit_net_slot_release(tx, id, 0);
		return ret;
	}
	if (!slot->held)
		let_go(tx, slot, skb);
	return 0;
}

static void publish(struct pvkit_net_tx *tx)
{
	if (pvkit_queue_commit(tx->queue))
		pvkit_queue_ring(tx->queue);
	watch(tx, 0);
	if (in_flight(tx) && !timer_pending(&tx->lazy))
		mod_timer(&tx->lazy, jiffies + LAZY);
}

netdev_tx_t pvkit_net_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct pvkit_net *net = netdev_priv(dev);
	struct pvkit_net_tx *tx = &net->tx[skb_get_queue_mapping(skb)];
	struct pvkit_net_stats *stats = &tx->stats;
	bool is_last = !netdev_xmit_more();
	u32 bytes = skb->len;

	if (is_crowded(tx))
		reclaim(tx, 0);
	/* It is stopped in time; a queue that was woken otherwise gets here. */
	if (unlikely(!has_room(tx, 1))) {
		netif_tx_stop_queue(tx->txq);
		publish(tx);
		return NETDEV_TX_BUSY;
	}
	skb_tx_timestamp(skb);
	if (unlikely(send(tx, skb))) {
		pvkit_net_count(stats, &stats->drops);
		dev_kfree_skb_any(skb);
	} else {
		u64_stats_update_begin(&stats->sync);
		u64_stats_inc(&stats->packets);
		u64_stats_add(&stats->bytes, bytes);
		u64_stats_update_end(&stats->sync);
		is_last = __netdev_tx_sent_queue(tx->txq, bytes, !is_last);
	}
	if (!has_room(tx, 1)) {
		netif_tx_stop_queue(tx->txq);
		is_last = true;
	}
	if (is_last)
		publish(tx);
	return NETDEV_TX_OK;
}
