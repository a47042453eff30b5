// SPDX-License-Identifier: GPL-2.0
/* What the block layer is told of a disk, and what of the host's description is believed. */
#include <linux/blkdev.h>
#include "blk.h"
#include "compat.h"

/* Longest name that a gendisk takes is longer. */
static void name_disk(char *name, size_t bytes, int number)
{
	char letters[8], *end = letters + sizeof(letters) - 1, *at = end;

	*at = '\0';
	do {
		*--at = 'a' + number % 26;
		number = number / 26 - 1;
	} while (number >= 0 && at > letters);
	snprintf(name, bytes, "pvd%s", at);
}

/* Copies the host's description; a disk that the block layer could not drive is refused. */
int pvblk_read_config(struct pvkit_device *device, struct pvkit_block_config *to)
{
	const struct pvkit_offer *offer = &device->offer;

	memcpy(to, offer->config, sizeof(*to));
	if (!is_power_of_2(to->logical_block) || to->logical_block < PVKIT_BLOCK_MIN_BLOCK ||
	    to->logical_block > PAGE_SIZE) {
		dev_err(&device->dev, "logical blocks of %u bytes are not supported\n",
			to->logical_block);
		return -EINVAL;
	}
	if (!is_power_of_2(to->physical_block) || to->physical_block < to->logical_block ||
	    to->capacity % to->logical_block || to->capacity > (u64)LLONG_MAX ||
	    (to->discard_granularity && !is_power_of_2(to->discard_granularity))) {
		dev_err(&device->dev,
			"the host describes an impossible disk (%llu bytes, blocks of %u and %u)\n",
			to->capacity, to->logical_block, to->physical_block);
		return -EINVAL;
	}
	if (offer->max_transfer < PAGE_SIZE || offer->alignment > SECTOR_SIZE) {
		dev_err(&device->dev, "requests of %u bytes, aligned to %u, are not supported\n",
			offer->max_transfer, offer->alignment);
		return -EINVAL;
	}
	if (!to->discard_granularity)
		to->discard_granularity = to->logical_block;
	return 0;
}

u64 pvblk_choose(const struct pvkit_device *device)
{
	return device->offer.features &
	       (PVKIT_BLOCK_FEATURES_FLUSH | PVKIT_BLOCK_FEATURES_DISCARD |
		PVKIT_BLOCK_FEATURES_WRITE_ZEROES | PVKIT_BLOCK_FEATURES_INDIRECT |
		PVKIT_BLOCK_FEATURES_RESIZE);
}

static unsigned int max_discard(const struct pvblk *disk, u64 feature)
{
	u64 most = min_t(u64, disk->config.max_discard, UINT_MAX);

	if (!(disk->features & feature))
		return 0;
	return round_down(most, disk->config.logical_block) >> SECTOR_SHIFT;
}

static unsigned int max_segments(const struct pvblk *disk)
{
	if (!(disk->features & PVKIT_BLOCK_FEATURES_INDIRECT))
		return 1;
	return clamp_t(u32, disk->device->offer.max_segments, 1, USHRT_MAX);
}

static unsigned int max_sectors(const struct pvblk *disk)
{
	u32 most = disk->device->offer.max_transfer;

	return round_down(most, disk->config.logical_block) >> SECTOR_SHIFT;
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)

struct gendisk *pvblk_alloc_disk(struct pvblk *disk)
{
	struct queue_limits limits = {
		.logical_block_size = disk->config.logical_block,
		.physical_block_size = disk->config.physical_block,
		.io_min = disk->config.physical_block,
		.max_hw_sectors = max_sectors(disk),
		.max_segments = max_segments(disk),
		.max_segment_size = round_down(disk->device->offer.max_transfer, PAGE_SIZE),
		.max_hw_discard_sectors = max_discard(disk, PVKIT_BLOCK_FEATURES_DISCARD),
		.max_write_zeroes_sectors = max_discard(disk, PVKIT_BLOCK_FEATURES_WRITE_ZEROES),
	};

	if (limits.max_hw_discard_sectors)
		limits.discard_granularity = disk->config.discard_granularity;
	if (disk->features & PVKIT_BLOCK_FEATURES_FLUSH)
		limits.features = BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA;
	return blk_mq_alloc_disk(&disk->set, &limits, disk);
}

#else

struct gendisk *pvblk_alloc_disk(struct pvblk *disk)
{
	struct gendisk *gendisk = blk_mq_alloc_disk(&disk->set, disk);
	struct request_queue *q;

	if (IS_ERR(gendisk))
		return gendisk;
	q = gendisk->queue;
	blk_queue_logical_block_size(q, disk->config.logical_block);
	blk_queue_physical_block_size(q, disk->config.physical_block);
	blk_queue_io_min(q, disk->config.physical_block);
	blk_queue_max_hw_sectors(q, max_sectors(disk));
	blk_queue_max_segments(q, max_segments(disk));
	blk_queue_max_segment_size(q, round_down(disk->device->offer.max_transfer, PAGE_SIZE));
	blk_queue_max_discard_sectors(q, max_discard(disk, PVKIT_BLOCK_FEATURES_DISCARD));
	if (disk->features & PVKIT_BLOCK_FEATURES_DISCARD)
		q->limits.discard_granularity = disk->config.discard_granularity;
	else
		q->limits.discard_granularity = 0;
	blk_queue_max_write_zeroes_sectors(q, max_discard(disk, PVKIT_BLOCK_FEATURES_WRITE_ZEROES));
	blk_queue_write_cache(q, disk->features & PVKIT_BLOCK_FEATURES_FLUSH,
			      disk->features & PVKIT_BLOCK_FEATURES_FLUSH);
	blk_queue_flag_set(QUEUE_FLAG_NONROT, q);
	return gendisk;
}

#endif

static ssize_t serial_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct pvblk *disk = dev_to_disk(dev)->private_data;

	return sysfs_emit(buf, "%.*s\n", PVKIT_BLOCK_SERIAL_BYTES, disk->config.serial);
}
static DEVICE_ATTR_RO(serial);

static struct attribute *pvblk_attrs[] = { &dev_attr_serial.attr, NULL };
ATTRIBUTE_GROUPS(pvblk);

static const struct block_device_operations pvblk_fops = { .owner = THIS_MODULE };

void pvblk_set_capacity(struct pvblk *disk)
{
	set_capacity_and_notify(disk->disk, disk->config.capacity >> SECTOR_SHIFT);
}

int pvblk_add_disk(struct pvblk *disk)
{
	struct gendisk *gendisk = disk->disk;

	name_disk(gendisk->disk_name, DISK_NAME_LEN, disk->number);
	gendisk->fops = &pvblk_fops;
	gendisk->private_data = disk;
	set_capacity(gendisk, disk->config.capacity >> SECTOR_SHIFT);
	if (disk->config.flags & PVKIT_BLOCK_FLAGS_READ_ONLY)
		set_disk_ro(gendisk, true);
	return device_add_disk(&disk->device->dev, gendisk, pvblk_groups);
}
