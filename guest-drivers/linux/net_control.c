// SPDX-License-Identifier: GPL-2.0
/*
 * What the device is told by CONTROL: which frames are wanted, how they are
 * spread, that the guest has announced itself. It waits for an answer, so it is
 * done in a work. All of it ends with the epoch and is told again.
 */
#include "net.h"

static int tell(struct pvkit_net *net, u16 operation, const void *data, u16 size)
{
	int ret = pvkit_control(net->device, operation, data, size);

	if (ret)
		netdev_dbg(net->dev, "control %u failed: error %d\n", operation, ret);
	return ret;
}

/* What the stack wants now; what cannot be said is asked for by more. */
static u32 wanted(struct net_device *dev, struct pvkit_multicast_filter *filter)
{
	struct netdev_hw_addr *address;
	u32 mode = 0;

	netif_addr_lock_bh(dev);
	if (dev->flags & IFF_PROMISC || !netdev_uc_empty(dev))
		mode |= PVKIT_RECEIVE_MODE_PROMISCUOUS;
	if (dev->flags & IFF_ALLMULTI || netdev_mc_count(dev) > PVKIT_NET_MAX_MULTICAST) {
		mode |= PVKIT_RECEIVE_MODE_ALL_MULTICAST;
	} else {
		netdev_for_each_mc_addr(address, dev)
			if (is_multicast_ether_addr(address->addr))
				ether_addr_copy(filter->addresses[filter->count++], address->addr);
	}
	netif_addr_unlock_bh(dev);
	return mode;
}

static void tell_mode(struct pvkit_net *net)
{
	struct pvkit_multicast_filter filter = {};
	u32 mode;

	if (!pvkit_net_has(net, PVKIT_NET_FEATURES_FILTER))
		return;
	mode = wanted(net->dev, &filter);
	/* The list first: when all were wanted until now none is missed in between. */
	tell(net, PVKIT_NET_CONTROL_SET_MULTICAST, &filter, sizeof(filter));
	tell(net, PVKIT_NET_CONTROL_SET_MODE, &mode, sizeof(mode));
}

static void mode_work(struct work_struct *work)
{
	struct pvkit_net *net = container_of(work, struct pvkit_net, mode_work);

	mutex_lock(&net->control);
	if (READ_ONCE(net->ready))
		tell_mode(net);
	mutex_unlock(&net->control);
}

static void announce_work(struct work_struct *work)
{
	struct pvkit_net *net = container_of(work, struct pvkit_net, announce_work);

	netdev_notify_peers(net->dev);
	mutex_lock(&net->control);
	tell(net, PVKIT_NET_CONTROL_ANNOUNCED, NULL, 0);
	mutex_unlock(&net->control);
}

void pvkit_net_set_rx_mode(struct net_device *dev)
{
	struct pvkit_net *net = netdev_priv(dev);

	schedule_work(&net->mode_work);
}

int pvkit_net_set_rss(struct pvkit_net *net, const struct pvkit_rss *rss)
{
	int ret = 0;

	mutex_lock(&net->control);
	if (READ_ONCE(net->ready))
		ret = tell(net, PVKIT_NET_CONTROL_SET_RSS, rss, sizeof(*rss));
	/* Else it is told when the device is back. */
	if (!ret)
		net->rss = *rss;
	mutex_unlock(&net->control);
	return ret;
}

/* A new epoch. */
void pvkit_net_control_again(struct pvkit_net *net)
{
	mutex_lock(&net->control);
	if (pvkit_net_has(net, PVKIT_NET_FEATURES_RSS))
		tell(net, PVKIT_NET_CONTROL_SET_RSS, &net->rss, sizeof(net->rss));
	/* Before that nothing is wanted yet, and the lists' lock is not made. */
	if (net->dev->reg_state == NETREG_REGISTERED)
		tell_mode(net);
	mutex_unlock(&net->control);
}

void pvkit_net_control_init(struct pvkit_net *net)
{
	u32 i;

	mutex_init(&net->control);
	INIT_WORK(&net->mode_work, mode_work);
	INIT_WORK(&net->announce_work, announce_work);
	for (i = PVKIT_HASH_KIND_IPV4; i <= PVKIT_HASH_KIND_UDP6; i++)
		net->rss.kinds |= BIT(i);
	netdev_rss_key_fill(net->rss.key, sizeof(net->rss.key));
	for (i = 0; i < PVKIT_NET_RSS_TABLE; i++)
		net->rss.table[i] = i % net->pairs;
}

void pvkit_net_control_end(struct pvkit_net *net)
{
	cancel_work_sync(&net->mode_work);
	cancel_work_sync(&net->announce_work);
}
