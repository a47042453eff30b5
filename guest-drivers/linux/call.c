// SPDX-License-Identifier: GPL-2.0
/*
 * Hypercalls by the platform function's port, and what stands before the first
 * of them: the description in the BAR, the reset register, the negotiation.
 */
#include <linux/slab.h>
#include "pvkit_host.h"

/*
 * The number goes in eax, arguments in rdi, rsi, r8; the result is all of rax.
 * No other register changes; memory does, as the call says.
 */
long pvkit_call(struct pvkit_host *host, u32 number, u64 first, u64 second, u64 third)
{
	register u64 r8 asm("r8") = third;
	u64 rax = number;

	asm volatile("outl %%eax, %%dx"
		     : "+a"(rax)
		     : "d"(host->call_port), "D"(first), "S"(second), "r"(r8)
		     : "memory");
	return (long)rax;
}

int pvkit_call_error(long result)
{
	if (result >= 0)
		return 0;
	switch (-result) {
	case PVKIT_CALL_ERROR_INVALID:
	case PVKIT_CALL_ERROR_STALE:
		return -EINVAL;
	case PVKIT_CALL_ERROR_FAULT:
		return -EFAULT;
	case PVKIT_CALL_ERROR_LIMIT:
		return -ENOSPC;
	case PVKIT_CALL_ERROR_NOT_FOUND:
		return -ENODEV;
	case PVKIT_CALL_ERROR_BUSY:
		return -EBUSY;
	case PVKIT_CALL_ERROR_DENIED:
		return -EPERM;
	case PVKIT_CALL_ERROR_UNSUPPORTED:
	case PVKIT_CALL_ERROR_UNKNOWN:
	case PVKIT_CALL_ERROR_NOT_NEGOTIATED:
		return -EOPNOTSUPP;
	default:
		return -EIO;
	}
}

int pvkit_status_to_errno(u8 status)
{
	switch (status) {
	case PVKIT_STATUS_OK:
		return 0;
	case PVKIT_STATUS_OUT_OF_RANGE:
	case PVKIT_STATUS_INVALID:
	case PVKIT_STATUS_MISALIGNED:
	case PVKIT_STATUS_TOO_LARGE:
		return -EINVAL;
	case PVKIT_STATUS_READ_ONLY:
		return -EROFS;
	case PVKIT_STATUS_UNSUPPORTED:
		return -EOPNOTSUPP;
	case PVKIT_STATUS_NO_SPACE:
		return -ENOSPC;
	default:
		return -EIO;
	}
}
EXPORT_SYMBOL_GPL(pvkit_status_to_errno);

/* Ends every epoch. When it returns the host no longer uses any memory of ours. */
void pvkit_reset(struct pvkit_host *host)
{
	iowrite32(PVKIT_PCI_RESET_ALL, host->bar + PVKIT_PCI_RESET_OFFSET);
	/* A read stays behind the write, whatever carries it. */
	ioread32(host->bar + PVKIT_PCI_RESET_OFFSET);
}

/*
 * Copies the description; a longer one's tail is not ours to understand, a
 * shorter one's is zero.
 */
int pvkit_read_info(struct pvkit_host *host)
{
	struct pvkit_platform_info *info = host->info;
	struct device *dev = &host->pdev->dev;
	u32 *words = (u32 *)info;
	u32 bytes, i;

	memset(info, 0, sizeof(*info));
	for (i = 0; i < 4; i++)
		words[i] = ioread32(host->bar + PVKIT_PCI_INFO_OFFSET + 4 * i);
	if (info->magic != PVKIT_PCI_PLATFORM_MAGIC) {
		dev_err(dev, "the function does not describe a pvkit host\n");
		return -ENODEV;
	}
	bytes = min_t(u32, info->size, sizeof(*info));
	if (bytes < offsetof(struct pvkit_platform_info, groups)) {
		dev_err(dev, "the host's description has only %u bytes\n", info->size);
		return -ENODEV;
	}
	for (; i < bytes / 4; i++)
		words[i] = ioread32(host->bar + PVKIT_PCI_INFO_OFFSET + 4 * i);
	info->group_count = min_t(u32, info->group_count, PVKIT_VERSION_MAX_GROUPS);
	info->region_count = min_t(u32, info->region_count, PVKIT_DISCOVERY_MAX_REGIONS);
	if (info->transport != PVKIT_TRANSPORT_PORT_REGISTERS || !info->port ||
	    info->port > U16_MAX - 3) {
		dev_err(dev, "transport %u at port %#x of the host is not known here\n",
			info->transport, info->port);
		return -ENODEV;
	}
	host->call_port = info->port;
	return 0;
}

/* Whether the host has a group in the version that is spoken here. */
static bool offered(const struct pvkit_platform_info *info, u16 group)
{
	const struct pvkit_group_offer *offer;
	u32 i;

	for (i = 0; i < info->group_count; i++) {
		offer = &info->groups[i];
		if (offer->group == group && offer->major == PVKIT_VERSION_CURRENT_MAJOR &&
		    offer->minor_oldest <= PVKIT_VERSION_CURRENT_MINOR &&
		    offer->minor_newest >= PVKIT_VERSION_CURRENT_MINOR)
			return true;
	}
	return false;
}

/*
 * Chooses what the bus and its devices need, once after each reset; and, where
 * it is offered, what a kernel's early console needs to go on.
 */
int pvkit_negotiate(struct pvkit_host *host)
{
	static const struct {
		u16 group;
		bool needed;
	} wanted[] = {
		{ PVKIT_GROUP_EVENT, true },
		{ PVKIT_GROUP_BUS, true },
		{ PVKIT_GROUP_GRANT, true },
		{ PVKIT_GROUP_CONSOLE, false },
	};
	struct device *dev = &host->pdev->dev;
	struct {
		struct pvkit_negotiate ask;
		struct pvkit_negotiate_reply reply;
	} *both;
	long result;
	u32 i;

	both = kzalloc(sizeof(*both), GFP_KERNEL);
	if (!both)
		return -ENOMEM;
	both->ask.size = sizeof(both->ask);
	for (i = 0; i < ARRAY_SIZE(wanted); i++) {
		if (offered(host->info, wanted[i].group)) {
			both->ask.groups[both->ask.count++] = (struct pvkit_group_choice) {
				.group = wanted[i].group,
				.major = PVKIT_VERSION_CURRENT_MAJOR,
				.minor = PVKIT_VERSION_CURRENT_MINOR,
			};
		} else if (wanted[i].needed) {
			dev_err(dev, "the host does not offer version %u.%u of group %u\n",
				PVKIT_VERSION_CURRENT_MAJOR, PVKIT_VERSION_CURRENT_MINOR,
				wanted[i].group);
			result = -PVKIT_CALL_ERROR_UNSUPPORTED;
			goto out;
		}
	}
	result = pvkit_call(host, PVKIT_CALL_NEGOTIATE, virt_to_phys(&both->ask),
			    virt_to_phys(&both->reply), sizeof(both->reply));
	if (result < 0)
		dev_err(dev, "the host refuses group %u, reason %u, features %#llx (error %ld)\n",
			both->reply.refused_group, both->reply.reason,
			both->reply.refused_features, -result);
out:
	kfree(both);
	return pvkit_call_error(result);
}
