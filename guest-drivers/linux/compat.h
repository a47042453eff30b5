/* SPDX-License-Identifier: GPL-2.0 */
/* What differs between the kernels that this source is built for: 6.1 and 6.12. */
#ifndef PVKIT_COMPAT_H
#define PVKIT_COMPAT_H

#include <linux/version.h>

/* A driver core whose callbacks do not change what they are given: 6.3, and 6.11 for drivers. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
#define PVKIT_UEVENT_DEVICE const struct device
#else
#define PVKIT_UEVENT_DEVICE struct device
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
#define PVKIT_MATCH_DRIVER const struct device_driver
#define PVKIT_BUS_TYPE const struct bus_type
#else
#define PVKIT_MATCH_DRIVER struct device_driver
#define PVKIT_BUS_TYPE struct bus_type
#endif

/* Received UDP that is not yet cut: 6.2 can tell the stack. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
#define PVKIT_RECEIVES_UDP
#endif

/* How the scaling table and key are got and set: 6.8 passes one struct. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
#define PVKIT_RXFH(read, write) \
static int get_rxfh(struct net_device *dev, struct ethtool_rxfh_param *param) \
{ \
	return read(dev, param->indir, param->key, &param->hfunc); \
} \
static int set_rxfh(struct net_device *dev, struct ethtool_rxfh_param *param, \
		    struct netlink_ext_ack *extack) \
{ \
	return write(dev, param->indir, param->key, param->hfunc); \
}
#else
#define PVKIT_RXFH(read, write) \
static int get_rxfh(struct net_device *dev, u32 *table, u8 *key, u8 *function) \
{ \
	return read(dev, table, key, function); \
} \
static int set_rxfh(struct net_device *dev, const u32 *table, const u8 *key, const u8 function) \
{ \
	return write(dev, table, key, function); \
}
#endif

/* What a terminal's write counts with: 6.6. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#define PVKIT_TTY_WRITE_RESULT ssize_t
#define PVKIT_TTY_WRITE_COUNT size_t
#else
#define PVKIT_TTY_WRITE_RESULT int
#define PVKIT_TTY_WRITE_COUNT int
#endif

#endif
