// SPDX-License-Identifier: GPL-2.0
/* The network driver: a device's life, and the interface's. */
#include <linux/ipv6.h>
#include <linux/module.h>
#include <linux/rtnetlink.h>
#include "net.h"
#include "net_choice.h"

static int open_queues(struct pvkit_net *net)
{
	u32 i;
	int ret;

	for (i = 0; i < net->pairs; i++) {
		ret = pvkit_net_rx_connect(&net->rx[i]) ?: pvkit_net_tx_connect(&net->tx[i]);
		if (ret)
			return ret;
	}
	return 0;
}

/* The queues are detached, or the device is stuck. */
static void disconnected(struct pvkit_net *net)
{
	u32 i;

	for (i = 0; i < net->pairs; i++) {
		pvkit_net_rx_disconnected(&net->rx[i]);
		pvkit_net_tx_disconnected(&net->tx[i]);
	}
	if (pvkit_stuck(net->device))
		netdev_err(net->dev, "the host keeps frames and buffers; their memory is lost\n");
}

static int connect(struct pvkit_net *net)
{
	int ret;

	ret = pvkit_accept(net->device, net->features, 2 * net->pairs);
	if (!ret)
		ret = open_queues(net);
	if (ret) {
		pvkit_close(net->device);
		disconnected(net);
	}
	return ret;
}

static void start(struct pvkit_net *net)
{
	u32 i;

	for (i = 0; i < net->pairs; i++) {
		pvkit_net_rx_start(&net->rx[i]);
		pvkit_net_tx_start(&net->tx[i]);
	}
	net->running = true;
	netif_tx_wake_all_queues(net->dev);
}

/* When it returns nobody is in net_rx.c or net_tx.c. */
static void stop(struct pvkit_net *net)
{
	u32 i;

	if (!net->running)
		return;
	net->running = false;
	/* NAPIs first: they wake queues. */
	for (i = 0; i < net->pairs; i++) {
		pvkit_net_rx_stop(&net->rx[i]);
		napi_disable(&net->tx[i].napi);
	}
	netif_tx_disable(net->dev);
	for (i = 0; i < net->pairs; i++)
		pvkit_net_tx_stop(&net->tx[i]);
}

static int ndo_open(struct net_device *dev)
{
	struct pvkit_net *net = netdev_priv(dev);

	if (net->ready)
		start(net);
	return 0;
}

static int ndo_stop(struct net_device *dev)
{
	stop(netdev_priv(dev));
	return 0;
}

static void ndo_tx_timeout(struct net_device *dev, unsigned int queue)
{
	struct pvkit_net *net = netdev_priv(dev);

	netdev_err(dev, "queue %u: the host takes no frames; the device is started anew\n", queue);
	txq_trans_cond_update(netdev_get_tx_queue(dev, queue));
	pvkit_restart(net->device);
}

static void add(struct pvkit_net_stats *stats, u64 *packets, u64 *bytes, u64 *drops, u64 *errors)
{
	u64 one[4];
	unsigned int start;

	do {
		start = u64_stats_fetch_begin(&stats->sync);
		one[0] = u64_stats_read(&stats->packets);
		one[1] = u64_stats_read(&stats->bytes);
		one[2] = u64_stats_read(&stats->drops);
		one[3] = u64_stats_read(&stats->errors);
	} while (u64_stats_fetch_retry(&stats->sync, start));
	*packets += one[0];
	*bytes += one[1];
	*drops += one[2];
	*errors += one[3];
}

static void ndo_get_stats64(struct net_device *dev, struct rtnl_link_stats64 *total)
{
	struct pvkit_net *net = netdev_priv(dev);
	u32 i;

	for (i = 0; i < net->pairs; i++) {
		add(&net->rx[i].stats, &total->rx_packets, &total->rx_bytes,
		    &total->rx_dropped, &total->rx_errors);
		add(&net->tx[i].stats, &total->tx_packets, &total->tx_bytes,
		    &total->tx_dropped, &total->tx_errors);
	}
}

/* What the host would refuse is done here. */
static netdev_features_t ndo_features_check(struct sk_buff *skb, struct net_device *dev,
					    netdev_features_t features)
{
	struct pvkit_net *net = netdev_priv(dev);

	features = vlan_features_check(skb, features);
	if (!skb_is_gso(skb))
		return features;
	if (skb_shinfo(skb)->gso_size < PVKIT_NET_MIN_SEGMENT || skb->len > net->max_frame)
		features &= ~NETIF_F_GSO_MASK;
	/* Behind some extensions of IPv6 it does not cut; they are rare. */
	if (vlan_get_protocol(skb) == htons(ETH_P_IPV6) &&
	    skb_network_header_len(skb) != sizeof(struct ipv6hdr))
		features &= ~NETIF_F_GSO_MASK;
	return features;
}

static const struct net_device_ops ops = {
	.ndo_open = ndo_open,
	.ndo_stop = ndo_stop,
	.ndo_start_xmit = pvkit_net_xmit,
	.ndo_features_check = ndo_features_check,
	.ndo_set_rx_mode = pvkit_net_set_rx_mode,
	.ndo_get_stats64 = ndo_get_stats64,
	.ndo_tx_timeout = ndo_tx_timeout,
	.ndo_validate_addr = eth_validate_addr,
};

/* The link as the host describes it. Its address and MTU are fixed. */
static int configure(struct pvkit_net *net)
{
	struct pvkit_net_config config;

	if (pvkit_net_config(net->device, &config) || config.mtu != net->mtu ||
	    !ether_addr_equal(config.mac, net->dev->perm_addr)) {
		netdev_warn(net->dev, "the host changes what is fixed; it is not believed\n");
		return -EINVAL;
	}
	net->speed = config.speed;
	if (net->ready && config.flags & PVKIT_LINK_FLAGS_UP)
		netif_carrier_on(net->dev);
	else
		netif_carrier_off(net->dev);
	if (config.flags & PVKIT_LINK_FLAGS_ANNOUNCE &&
	    pvkit_net_has(net, PVKIT_NET_FEATURES_ANNOUNCE))
		schedule_work(&net->announce_work);
	return 0;
}

static int config_changed(struct pvkit_device *device)
{
	return configure(dev_get_drvdata(&device->dev));
}

static void destroy(struct pvkit_net *net)
{
	u32 i;

	for (i = 0; net->rx && i < net->pairs; i++)
		pvkit_net_rx_destroy(&net->rx[i]);
	for (i = 0; net->tx && i < net->pairs; i++)
		pvkit_net_tx_destroy(&net->tx[i]);
	kfree(net->rx);
	kfree(net->tx);
	free_netdev(net->dev);
}

static int create(struct pvkit_net *net)
{
	u32 i;
	int ret;

	net->rx = kcalloc(net->pairs, sizeof(*net->rx), GFP_KERNEL);
	net->tx = kcalloc(net->pairs, sizeof(*net->tx), GFP_KERNEL);
	if (!net->rx || !net->tx)
		return -ENOMEM;
	for (i = 0; i < net->pairs; i++) {
		net->rx[i].net = net;
		net->rx[i].index = i;
		net->tx[i].net = net;
		net->tx[i].index = i;
	}
	for (i = 0; i < net->pairs; i++) {
		ret = pvkit_net_rx_create(&net->rx[i]) ?: pvkit_net_tx_create(&net->tx[i]);
		if (ret)
			return ret;
	}
	return 0;
}

static int probe(struct pvkit_device *device)
{
	u16 pairs = pvkit_net_pairs(device);
	struct net_device *dev;
	struct pvkit_net *net;
	int ret;

	if (!pairs)
		return -EINVAL;
	dev = alloc_etherdev_mqs(sizeof(*net), pairs, pairs);
	if (!dev)
		return -ENOMEM;
	SET_NETDEV_DEV(dev, &device->dev);
	net = netdev_priv(dev);
	net->dev = dev;
	net->device = device;
	net->pairs = pairs;
	dev_set_drvdata(&device->dev, net);
	ret = pvkit_net_choose(net);
	if (ret) {
		free_netdev(dev);
		return ret;
	}
	dev->netdev_ops = &ops;
	dev->ethtool_ops = &pvkit_net_ethtool_ops;
	dev->dev_port = device->offer.instance;
	pvkit_net_control_init(net);
	ret = create(net) ?: connect(net);
	if (ret)
		goto destroy;
	pvkit_net_control_again(net);
	net->ready = true;
	netif_carrier_off(dev);
	ret = register_netdev(dev);
	if (ret)
		goto close;
	pvkit_net_spread(net);
	configure(net);
	return 0;

close:
	pvkit_net_control_end(net);
	pvkit_close(device);
	disconnected(net);
destroy:
	destroy(net);
	return ret;
}

static void remove(struct pvkit_device *device)
{
	struct pvkit_net *net = dev_get_drvdata(&device->dev);

	unregister_netdev(net->dev);
	pvkit_net_control_end(net);
	pvkit_close(device);
	disconnected(net);
	destroy(net);
}

static void disconnect(struct pvkit_device *device)
{
	struct pvkit_net *net = dev_get_drvdata(&device->dev);

	rtnl_lock();
	WRITE_ONCE(net->ready, false);
	netif_carrier_off(net->dev);
	stop(net);
	disconnected(net);
	rtnl_unlock();
}

static int reconnect(struct pvkit_device *device)
{
	struct pvkit_net *net = dev_get_drvdata(&device->dev);
	int ret;

	ret = pvkit_net_choice_holds(net) ?: connect(net);
	if (ret)
		return ret;
	pvkit_net_control_again(net);
	rtnl_lock();
	WRITE_ONCE(net->ready, true);
	if (netif_running(net->dev))
		start(net);
	rtnl_unlock();
	configure(net);
	return 0;
}

static struct pvkit_driver pvkit_net_driver = {
	.driver.name = "pvkit_net",
	.device_class = PVKIT_CLASS_NET,
	.probe = probe,
	.remove = remove,
	.disconnect = disconnect,
	.reconnect = reconnect,
	.config_changed = config_changed,
};
module_pvkit_driver(pvkit_net_driver);

MODULE_ALIAS("pvkit:c0003");
MODULE_DESCRIPTION("Network device of pvkit");
MODULE_LICENSE("GPL");
