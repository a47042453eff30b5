// SPDX-License-Identifier: GPL-2.0
/* What ethtool shows and sets. */
#include <linux/ethtool.h>
#include "compat.h"
#include "net.h"

static void get_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	struct pvkit_net *net = netdev_priv(dev);

	strscpy(info->driver, "pvkit_net", sizeof(info->driver));
	strscpy(info->bus_info, dev_name(&net->device->dev), sizeof(info->bus_info));
}

static int get_link_ksettings(struct net_device *dev, struct ethtool_link_ksettings *settings)
{
	struct pvkit_net *net = netdev_priv(dev);

	settings->base.speed = net->speed ?: SPEED_UNKNOWN;
	settings->base.duplex = DUPLEX_FULL;
	settings->base.port = PORT_OTHER;
	return 0;
}

static void get_channels(struct net_device *dev, struct ethtool_channels *channels)
{
	struct pvkit_net *net = netdev_priv(dev);

	channels->max_combined = net->pairs;
	channels->combined_count = net->pairs;
}

static void get_ringparam(struct net_device *dev, struct ethtool_ringparam *ring,
			  struct kernel_ethtool_ringparam *kernel_ring,
			  struct netlink_ext_ack *extack)
{
	struct pvkit_net *net = netdev_priv(dev);

	ring->rx_max_pending = net->depth;
	ring->tx_max_pending = net->depth;
	ring->rx_pending = net->depth;
	ring->tx_pending = net->depth;
}

static const char * const names[] = {
	"packets", "bytes", "drops", "errors", "doorbells", "interrupts",
};

#define NAMES ARRAY_SIZE(names)

static int get_sset_count(struct net_device *dev, int set)
{
	struct pvkit_net *net = netdev_priv(dev);

	return set == ETH_SS_STATS ? 2 * net->pairs * NAMES : -EOPNOTSUPP;
}

static void get_strings(struct net_device *dev, u32 set, u8 *data)
{
	struct pvkit_net *net = netdev_priv(dev);
	u32 i, name;

	if (set != ETH_SS_STATS)
		return;
	for (i = 0; i < net->pairs; i++)
		for (name = 0; name < NAMES; name++)
			ethtool_sprintf(&data, "rx%u_%s", i, names[name]);
	for (i = 0; i < net->pairs; i++)
		for (name = 0; name < NAMES; name++)
			ethtool_sprintf(&data, "tx%u_%s", i, names[name]);
}

static u64 *add(u64 *data, const struct pvkit_net_stats *stats, const struct pvkit_queue *queue)
{
	unsigned int start;

	do {
		start = u64_stats_fetch_begin(&stats->sync);
		data[0] = u64_stats_read(&stats->packets);
		data[1] = u64_stats_read(&stats->bytes);
		data[2] = u64_stats_read(&stats->drops);
		data[3] = u64_stats_read(&stats->errors);
	} while (u64_stats_fetch_retry(&stats->sync, start));
	data[4] = READ_ONCE(queue->doorbells);
	data[5] = READ_ONCE(queue->interrupts);
	return data + NAMES;
}

static void get_ethtool_stats(struct net_device *dev, struct ethtool_stats *stats, u64 *data)
{
	struct pvkit_net *net = netdev_priv(dev);
	u32 i;

	for (i = 0; i < net->pairs; i++)
		data = add(data, &net->rx[i].stats, net->rx[i].queue);
	for (i = 0; i < net->pairs; i++)
		data = add(data, &net->tx[i].stats, net->tx[i].queue);
}

static int get_rxnfc(struct net_device *dev, struct ethtool_rxnfc *info, u32 *rules)
{
	struct pvkit_net *net = netdev_priv(dev);

	if (info->cmd != ETHTOOL_GRXRINGS)
		return -EOPNOTSUPP;
	info->data = net->pairs;
	return 0;
}

static u32 get_rxfh_key_size(struct net_device *dev)
{
	struct pvkit_net *net = netdev_priv(dev);

	return pvkit_net_has(net, PVKIT_NET_FEATURES_RSS) ? PVKIT_NET_RSS_KEY_BYTES : 0;
}

static u32 get_rxfh_indir_size(struct net_device *dev)
{
	struct pvkit_net *net = netdev_priv(dev);

	return pvkit_net_has(net, PVKIT_NET_FEATURES_RSS) ? PVKIT_NET_RSS_TABLE : 0;
}

static int read_rss(struct net_device *dev, u32 *table, u8 *key, u8 *function)
{
	struct pvkit_net *net = netdev_priv(dev);
	u32 i;

	if (!pvkit_net_has(net, PVKIT_NET_FEATURES_RSS))
		return -EOPNOTSUPP;
	for (i = 0; table && i < PVKIT_NET_RSS_TABLE; i++)
		table[i] = net->rss.table[i];
	if (key)
		memcpy(key, net->rss.key, sizeof(net->rss.key));
	if (function)
		*function = ETH_RSS_HASH_TOP;
	return 0;
}

static int write_rss(struct net_device *dev, const u32 *table, const u8 *key, u8 function)
{
	struct pvkit_net *net = netdev_priv(dev);
	struct pvkit_rss rss = net->rss;
	u32 i;

	if (!pvkit_net_has(net, PVKIT_NET_FEATURES_RSS) ||
	    (function != ETH_RSS_HASH_NO_CHANGE && function != ETH_RSS_HASH_TOP))
		return -EOPNOTSUPP;
	/* That its entries are pairs of ours was checked by the core. */
	for (i = 0; table && i < PVKIT_NET_RSS_TABLE; i++)
		rss.table[i] = table[i];
	if (key)
		memcpy(rss.key, key, sizeof(rss.key));
	return pvkit_net_set_rss(net, &rss);
}

PVKIT_RXFH(read_rss, write_rss)

const struct ethtool_ops pvkit_net_ethtool_ops = {
	.get_drvinfo = get_drvinfo,
	.get_link = ethtool_op_get_link,
	.get_link_ksettings = get_link_ksettings,
	.get_channels = get_channels,
	.get_ringparam = get_ringparam,
	.get_sset_count = get_sset_count,
	.get_strings = get_strings,
	.get_ethtool_stats = get_ethtool_stats,
	.get_ts_info = ethtool_op_get_ts_info,
	.get_rxnfc = get_rxnfc,
	.get_rxfh_key_size = get_rxfh_key_size,
	.get_rxfh_indir_size = get_rxfh_indir_size,
	.get_rxfh = get_rxfh,
	.set_rxfh = set_rxfh,
};
