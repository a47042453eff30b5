// SPDX-License-Identifier: GPL-2.0
/*
 * Which memory the backends may use: all of RAM (nothing is copied), or a
 * window of its own beside RAM (everything is copied, and a backend in a
 * process of its own can reach nothing else).
 */
#include <linux/io.h>
#include <linux/module.h>
#include <linux/slab.h>
#include "pvkit_host.h"

static bool window = true;
module_param(window, bool, 0444);
MODULE_PARM_DESC(window,
		 "keep rings and buffers in the host's window if there is one; off: share all memory");

bool pvkit_uses_window(const struct pvkit_device *device)
{
	return device->host->window;
}
EXPORT_SYMBOL_GPL(pvkit_uses_window);

/* Rounded inwards to whole pages, as grants are. */
static bool whole_pages(const struct pvkit_region *region, u64 *base, u64 *length)
{
	u64 end;

	if (check_add_overflow(region->base, region->length, &end))
		return false;
	*base = PAGE_ALIGN(region->base);
	end &= PAGE_MASK;
	*length = end > *base ? end - *base : 0;
	return *length;
}

int pvkit_memory_init(struct pvkit_host *host)
{
	const struct pvkit_region *region;
	u64 base, length;
	u32 i;
	int ret;

	for (i = 0; window && i < host->info->region_count; i++) {
		region = &host->info->regions[i];
		if (region->kind != PVKIT_REGION_KIND_WINDOW ||
		    !whole_pages(region, &base, &length))
			continue;
		if (region_intersects(base, length, IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE) !=
		    REGION_DISJOINT) {
			dev_err(&host->pdev->dev, "the host's window at %#llx lies in our memory\n",
				base);
			return -EINVAL;
		}
		host->window_virt = memremap(base, length, MEMREMAP_WB);
		if (!host->window_virt)
			return -ENOMEM;
		host->window = gen_pool_create(PAGE_SHIFT, NUMA_NO_NODE);
		if (!host->window)
			return -ENOMEM;
		ret = gen_pool_add_virt(host->window, (unsigned long)host->window_virt,
					base, length, NUMA_NO_NODE);
		if (ret)
			return ret;
		host->window_base = base;
		host->window_bytes = length;
		break;
	}
	return 0;
}

void pvkit_memory_end(struct pvkit_host *host)
{
	if (host->window) {
		if (gen_pool_avail(host->window) == host->window_bytes)
			gen_pool_destroy(host->window);
		else
			dev_warn(&host->pdev->dev, "buffers stay with the host, and are lost\n");
	}
	if (host->window_virt)
		memunmap(host->window_virt);
}

void *pvkit_alloc(struct pvkit_device *device, size_t bytes, gfp_t flags)
{
	void *memory;

	bytes = PAGE_ALIGN(bytes);
	if (!device->host->window)
		return alloc_pages_exact(bytes, flags | __GFP_ZERO | __GFP_NOWARN);
	memory = (void *)gen_pool_alloc(device->host->window, bytes);
	if (memory)
		memset(memory, 0, bytes);
	return memory;
}
EXPORT_SYMBOL_GPL(pvkit_alloc);

void pvkit_free(struct pvkit_device *device, void *memory, size_t bytes)
{
	if (!memory)
		return;
	bytes = PAGE_ALIGN(bytes);
	if (device->host->window)
		gen_pool_free(device->host->window, (unsigned long)memory, bytes);
	else
		free_pages_exact(memory, bytes);
}
EXPORT_SYMBOL_GPL(pvkit_free);

static phys_addr_t address(const struct pvkit_device *device, const void *memory)
{
	const struct pvkit_host *host = device->host;

	if (host->window)
		return host->window_base + (memory - host->window_virt);
	return virt_to_phys((void *)memory);
}

int pvkit_locate_virt(const struct pvkit_device *device, const void *memory, u32 bytes,
		      u32 *grant, u64 *offset)
{
	return pvkit_locate(device, address(device, memory), bytes, grant, offset);
}
EXPORT_SYMBOL_GPL(pvkit_locate_virt);

/* The address of each page of an area, for OPEN_QUEUE. */
void pvkit_list_pages(const struct pvkit_device *device, const void *area, size_t bytes, u64 *list)
{
	size_t i;

	for (i = 0; i < bytes / PAGE_SIZE; i++)
		list[i] = address(device, area + i * PAGE_SIZE);
}

/* Shares what there is to share with the backend of a device that was accepted. */
int pvkit_share(struct pvkit_device *device)
{
	struct pvkit_host *host = device->host;
	u32 kind = host->window ? PVKIT_REGION_KIND_WINDOW : PVKIT_REGION_KIND_RAM;
	struct pvkit_share_grant body = {
		.access = PVKIT_ACCESS_READ | PVKIT_ACCESS_WRITE,
	};
	struct pvkit_reply reply;
	u32 i;
	int ret;

	device->extent_count = 0;
	for (i = 0; i < host->info->region_count; i++) {
		if (host->info->regions[i].kind != kind ||
		    !whole_pages(&host->info->regions[i], &body.base, &body.length))
			continue;
		ret = pvkit_bus_request(host, device->id, device->epoch, PVKIT_KIND_GRANT_SHARE,
					&body, sizeof(body), &reply);
		if (ret)
			return ret;
		device->extents[device->extent_count++] = (struct pvkit_extent) {
			.base = body.base, .length = body.length, .grant = (u32)reply.values[0],
		};
	}
	return device->extent_count ? 0 : -ENOMEM;
}
