// SPDX-License-Identifier: GPL-2.0
/* What is chosen of an offer, and what the stack may therefore expect. */
#include <linux/log2.h>
#include "compat.h"
#include "net_choice.h"

#define LARGE_RECEIVE (PVKIT_NET_FEATURES_RX_TSO4 | PVKIT_NET_FEATURES_RX_TSO6 | \
		       PVKIT_NET_FEATURES_RX_USO)
#define LARGE_TRANSMIT (PVKIT_NET_FEATURES_TX_TSO4 | PVKIT_NET_FEATURES_TX_TSO6 | \
			PVKIT_NET_FEATURES_TX_USO)
#define KNOWN (PVKIT_NET_FEATURES_TX_CHECKSUM | PVKIT_NET_FEATURES_RX_CHECKSUM | \
	       LARGE_RECEIVE | LARGE_TRANSMIT | PVKIT_NET_FEATURES_MERGEABLE | \
	       PVKIT_NET_FEATURES_INDIRECT | PVKIT_NET_FEATURES_FILTER | \
	       PVKIT_NET_FEATURES_RSS | PVKIT_NET_FEATURES_ANNOUNCE)

u16 pvkit_net_pairs(const struct pvkit_device *device)
{
	return min_t(u32, device->offer.max_queues / 2, num_online_cpus());
}

/* The offer's configuration, judged. */
int pvkit_net_config(const struct pvkit_device *device, struct pvkit_net_config *config)
{
	memcpy(config, device->offer.config, sizeof(*config));
	if (!is_valid_ether_addr(config->mac) || config->mtu < PVKIT_NET_MIN_MTU ||
	    config->mtu > PVKIT_NET_MAX_MTU)
		return -EINVAL;
	return 0;
}

static u64 choose(const struct pvkit_net *net, const struct pvkit_offer *offer)
{
	u64 chosen = offer->features & KNOWN;
	/* A quarter of the buffers may wait to be posted again. */
	u32 room = (net->depth - net->depth / 4) * net->buffer_bytes;

#ifndef PVKIT_RECEIVES_UDP
	chosen &= ~PVKIT_NET_FEATURES_RX_USO;
#endif
	/* A list lies at any address, and names any. */
	if (offer->max_segments < PVKIT_NET_SEGMENTS || offer->alignment > 1)
		chosen &= ~PVKIT_NET_FEATURES_INDIRECT;
	if (!(chosen & PVKIT_NET_FEATURES_RX_CHECKSUM) ||
	    !(chosen & PVKIT_NET_FEATURES_MERGEABLE) ||
	    net->buffer_bytes < PAGE_SIZE || room < PVKIT_NET_MAX_FRAME)
		chosen &= ~LARGE_RECEIVE;
	if (!(chosen & PVKIT_NET_FEATURES_TX_CHECKSUM) ||
	    !(chosen & PVKIT_NET_FEATURES_INDIRECT) || offer->max_transfer < PVKIT_NET_MAX_FRAME)
		chosen &= ~LARGE_TRANSMIT;
	if (net->pairs == 1)
		chosen &= ~PVKIT_NET_FEATURES_RSS;
	return chosen;
}

/* Whether a frame of the link goes into and out of the queues. */
static bool fits(const struct pvkit_net *net, const struct pvkit_offer *offer)
{
	u32 frame = net->mtu + PVKIT_NET_HEADERS;
	u32 parts = DIV_ROUND_UP(frame, net->buffer_bytes);

	if (frame > offer->max_transfer)
		return false;
	if (!pvkit_net_has(net, PVKIT_NET_FEATURES_MERGEABLE))
		return parts == 1;
	return parts <= min_t(u32, MAX_SKB_FRAGS, net->depth - net->depth / 4);
}

static void size_chunks(struct pvkit_net *net)
{
	bool indirect = pvkit_net_has(net, PVKIT_NET_FEATURES_INDIRECT);

	net->max_frame = net->mtu + PVKIT_NET_HEADERS;
	if (net->features & LARGE_TRANSMIT)
		net->max_frame = PVKIT_NET_MAX_FRAME;
	net->chunk_bytes = indirect ? PAGE_SIZE : PAGE_ALIGN(net->max_frame);
	net->frame_chunks = DIV_ROUND_UP(net->max_frame, net->chunk_bytes);
	net->chunk_count = max(net->depth, 4 * net->frame_chunks);
}

static void tell_stack(struct pvkit_net *net, const struct pvkit_net_config *config)
{
	static const struct {
		u64 feature;
		netdev_features_t means;
	} map[] = {
		{ PVKIT_NET_FEATURES_TX_CHECKSUM, NETIF_F_HW_CSUM },
		{ PVKIT_NET_FEATURES_RX_CHECKSUM, NETIF_F_RXCSUM },
		{ PVKIT_NET_FEATURES_TX_TSO4, NETIF_F_TSO | NETIF_F_TSO_ECN },
		{ PVKIT_NET_FEATURES_TX_TSO6, NETIF_F_TSO6 },
		{ PVKIT_NET_FEATURES_TX_USO, NETIF_F_GSO_UDP_L4 },
		{ PVKIT_NET_FEATURES_RSS, NETIF_F_RXHASH },
	};
	struct net_device *dev = net->dev;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(map); i++)
		if (pvkit_net_has(net, map[i].feature))
			dev->hw_features |= map[i].means;
	/* What is copied may lie anywhere. */
	if (net->copies || pvkit_net_has(net, PVKIT_NET_FEATURES_INDIRECT))
		dev->hw_features |= NETIF_F_SG;
	/* The host judges headers before it cuts. */
	dev->features = dev->hw_features | NETIF_F_HIGHDMA | NETIF_F_GSO_ROBUST;
	dev->vlan_features = dev->features & ~NETIF_F_RXHASH;
	dev->min_mtu = PVKIT_NET_MIN_MTU;
	dev->max_mtu = net->mtu;
	dev->mtu = net->mtu;
	eth_hw_addr_set(dev, config->mac);
}

int pvkit_net_choose(struct pvkit_net *net)
{
	const struct pvkit_offer *offer = &net->device->offer;
	struct pvkit_net_config config;
	int ret;

	ret = pvkit_net_config(net->device, &config);
	if (ret) {
		dev_err(&net->device->dev, "address %pM and MTU %u cannot be\n",
			config.mac, config.mtu);
		return ret;
	}
	net->mtu = config.mtu;
	net->speed = config.speed;
	net->depth = min_t(u32, PVKIT_NET_DEPTH, offer->max_depth);
	net->buffer_bytes = min_t(u32, PAGE_SIZE, offer->max_transfer);
	if (!net->buffer_bytes)
		return -EINVAL;
	net->features = choose(net, offer);
	net->copies = pvkit_uses_window(net->device) || offer->alignment > 1;
	if (!fits(net, offer)) {
		dev_err(&net->device->dev, "frames of MTU %u do not fit its queues\n", net->mtu);
		return -EOPNOTSUPP;
	}
	size_chunks(net);
	tell_stack(net, &config);
	return 0;
}

/* Whether what is offered again is still enough. */
int pvkit_net_choice_holds(const struct pvkit_net *net)
{
	const struct pvkit_offer *offer = &net->device->offer;
	struct pvkit_net_config config;

	if (pvkit_net_config(net->device, &config) || config.mtu != net->mtu ||
	    !ether_addr_equal(config.mac, net->dev->perm_addr) || offer->max_depth < net->depth ||
	    net->features & ~choose(net, offer) || !fits(net, offer) ||
	    offer->max_transfer < net->buffer_bytes || (offer->alignment > 1 && !net->copies)) {
		dev_err(&net->device->dev, "it is offered again as another device\n");
		return -EINVAL;
	}
	return 0;
}

/* Queues by CPU; and byte queue limits that leave small loads alone. */
void pvkit_net_spread(struct pvkit_net *net)
{
	u32 i;

	for (i = 0; i < net->pairs; i++) {
		netdev_queue_set_dql_min_limit(net->tx[i].txq, PVKIT_NET_CROWD);
		if (net->pairs > 1)
			netif_set_xps_queue(net->dev,
					    get_cpu_mask(cpumask_local_spread(i, NUMA_NO_NODE)), i);
	}
}
