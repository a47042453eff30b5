// SPDX-License-Identifier: GPL-2.0
/* Disks of the host: their life. */
#include <linux/idr.h>
#include <linux/module.h>
#include <linux/slab.h>
#include "blk.h"

static DEFINE_IDA(numbers);

static int open_queues(struct pvblk *disk)
{
	int ret;
	u16 i;

	ret = pvkit_accept(disk->device, disk->features, disk->queue_count);
	for (i = 0; !ret && i < disk->queue_count; i++)
		ret = pvkit_queue_open(disk->queues[i].queue);
	return ret;
}

static void detach_queues(struct pvblk *disk)
{
	u16 i;

	for (i = 0; i < disk->queue_count; i++)
		pvkit_queue_detached(disk->queues[i].queue);
}

/* The CPUs whose requests come to this queue take its interrupts. */
static void note_cpus(struct pvblk *disk, struct pvblk_queue *queue)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		if (disk->set.map[HCTX_TYPE_DEFAULT].mq_map[cpu] == queue->index)
			cpumask_set_cpu(cpu, queue->cpus);
}

static void destroy_queues(struct pvblk *disk)
{
	u16 i;

	for (i = 0; i < disk->queue_count; i++) {
		pvkit_queue_destroy(disk->queues[i].queue);
		free_cpumask_var(disk->queues[i].cpus);
	}
	kfree(disk->queues);
}

static int create_queues(struct pvblk *disk)
{
	struct pvblk_queue *queue;
	u16 i;

	for (i = 0; i < disk->queue_count; i++) {
		queue = &disk->queues[i];
		if (!zalloc_cpumask_var(&queue->cpus, GFP_KERNEL))
			return -ENOMEM;
		note_cpus(disk, queue);
		queue->queue = pvkit_queue_create(disk->device, i, disk->depth,
						  PVKIT_RING_COMPLETION_BYTES, pvblk_interrupt,
						  queue, queue->cpus);
		if (IS_ERR(queue->queue))
			return PTR_ERR(queue->queue);
	}
	return 0;
}

static int alloc_tags(struct pvblk *disk)
{
	disk->set.ops = &pvblk_ops;
	disk->set.nr_hw_queues = disk->queue_count;
	disk->set.queue_depth = disk->depth;
	disk->set.numa_node = NUMA_NO_NODE;
	disk->set.flags = BLK_MQ_F_SHOULD_MERGE;
	disk->set.cmd_size = sizeof(struct pvblk_request);
	disk->set.driver_data = disk;
	return blk_mq_alloc_tag_set(&disk->set);
}

/* The block layer counts both: one more of the second than of the first is a WARNING. */
static void be_quiet(struct pvblk *disk)
{
	if (!disk->quiet)
		blk_mq_quiesce_queue(disk->disk->queue);
	disk->quiet = true;
}

static void go_on(struct pvblk *disk)
{
	if (disk->quiet)
		blk_mq_unquiesce_queue(disk->disk->queue);
	disk->quiet = false;
	blk_mq_kick_requeue_list(disk->disk->queue);
}

/* What waits ends in an error: there is nobody who could serve it. */
static void let_die(struct pvblk *disk)
{
	WRITE_ONCE(disk->dying, true);
	blk_mark_disk_dead(disk->disk);
	go_on(disk);
}

/*
 * The queues are detached. What is in flight is submitted again when they are
 * opened anew; the host of a stuck device may still read and write it.
 */
static void take_back(struct pvblk *disk)
{
	bool stuck = pvkit_stuck(disk->device);
	u16 i;

	for (i = 0; i < disk->queue_count; i++)
		pvkit_queue_for_each_in_flight(disk->queues[i].queue,
					       stuck ? pvblk_lose : pvblk_requeue,
					       &disk->queues[i]);
}

/*
 * The host completes nothing while ->remove() waits for it, holding the
 * device's lock: so nobody else closes the device meanwhile, and this may. What
 * is in flight ends in errors.
 */
static void give_up(struct work_struct *work)
{
	struct pvblk *disk = container_of(work, struct pvblk, give_up);
	u16 i;

	be_quiet(disk);
	pvkit_close(disk->device);
	/* What the host completed before it let go. */
	for (i = 0; i < disk->queue_count; i++)
		pvkit_queue_poll(disk->queues[i].queue);
	detach_queues(disk);
	take_back(disk);
	let_die(disk);
}

static struct pvblk *new_disk(struct pvkit_device *device)
{
	struct pvblk *disk = kzalloc(sizeof(*disk), GFP_KERNEL);
	u16 i;

	if (!disk)
		return NULL;
	disk->device = device;
	INIT_WORK(&disk->give_up, give_up);
	disk->features = device->choice_made ? device->features : pvblk_choose(device);
	disk->queue_count = min_t(u32, device->offer.max_queues, num_online_cpus());
	/* With two ids the block layer gets one: the flush has a tag of its own. */
	disk->depth = min_t(u32, device->offer.max_depth, PVBLK_DEPTH);
	disk->queues = kcalloc(disk->queue_count, sizeof(*disk->queues), GFP_KERNEL);
	disk->number = ida_alloc(&numbers, GFP_KERNEL);
	if (!disk->queues || disk->number < 0) {
		if (disk->number >= 0)
			ida_free(&numbers, disk->number);
		kfree(disk->queues);
		kfree(disk);
		return NULL;
	}
	for (i = 0; i < disk->queue_count; i++) {
		spin_lock_init(&disk->queues[i].lock);
		disk->queues[i].index = i;
		disk->queues[i].disk = disk;
	}
	return disk;
}

static void free_disk(struct pvblk *disk)
{
	ida_free(&numbers, disk->number);
	kfree(disk);
}

static int probe(struct pvkit_device *device)
{
	struct pvkit_block_config config;
	struct pvblk *disk;
	int ret;

	ret = pvblk_read_config(device, &config);
	if (ret)
		return ret;
	disk = new_disk(device);
	if (!disk)
		return -ENOMEM;
	disk->config = config;
	ret = alloc_tags(disk);
	if (ret)
		goto free;
	ret = create_queues(disk);
	if (!ret)
		ret = open_queues(disk);
	if (ret)
		goto close;
	disk->disk = pvblk_alloc_disk(disk);
	if (IS_ERR(disk->disk)) {
		ret = PTR_ERR(disk->disk);
		goto close;
	}
	dev_set_drvdata(&device->dev, disk);
	ret = pvblk_add_disk(disk);
	if (!ret)
		return 0;
	put_disk(disk->disk);
close:
	pvkit_close(device);
	detach_queues(disk);
	blk_mq_free_tag_set(&disk->set);
free:
	destroy_queues(disk);
	free_disk(disk);
	return ret;
}

static void disconnect(struct pvkit_device *device)
{
	struct pvblk *disk = dev_get_drvdata(&device->dev);

	be_quiet(disk);
	detach_queues(disk);
	take_back(disk);
	if (pvkit_gone(device))
		let_die(disk);
}

/* The same disk as before, but for its size. */
static int take_config(struct pvblk *disk)
{
	struct pvkit_block_config config;
	int ret;

	ret = pvblk_read_config(disk->device, &config);
	if (ret)
		return ret;
	if (config.logical_block != disk->config.logical_block) {
		dev_err(&disk->device->dev, "its blocks have %u bytes now, and had %u\n",
			config.logical_block, disk->config.logical_block);
		return -EINVAL;
	}
	disk->config.capacity = config.capacity;
	return 0;
}

static int reconnect(struct pvkit_device *device)
{
	struct pvblk *disk = dev_get_drvdata(&device->dev);
	int ret;

	ret = take_config(disk);
	if (!ret)
		ret = open_queues(disk);
	if (ret) {
		/* Those that were opened before one was not. */
		pvkit_close(device);
		detach_queues(disk);
		return ret;
	}
	go_on(disk);
	pvblk_set_capacity(disk);
	return 0;
}

static int config_changed(struct pvkit_device *device)
{
	struct pvblk *disk = dev_get_drvdata(&device->dev);
	int ret;

	ret = take_config(disk);
	if (!ret)
		pvblk_set_capacity(disk);
	return ret;
}

static void remove(struct pvkit_device *device)
{
	struct pvblk *disk = dev_get_drvdata(&device->dev);

	if (device->lost || pvkit_gone(device))
		let_die(disk);
	else
		WRITE_ONCE(disk->leaving, true);
	del_gendisk(disk->disk);
	WRITE_ONCE(disk->leaving, false);
	cancel_work_sync(&disk->give_up);
	pvkit_close(device);
	detach_queues(disk);
	/* The lists of what is lost are part of the tags. */
	if (!pvkit_stuck(device))
		blk_mq_free_tag_set(&disk->set);
	put_disk(disk->disk);
	destroy_queues(disk);
	free_disk(disk);
}

static struct pvkit_driver pvkit_blk_driver = {
	.driver.name = "pvkit_blk",
	.device_class = PVKIT_CLASS_BLOCK,
	.probe = probe,
	.remove = remove,
	.disconnect = disconnect,
	.reconnect = reconnect,
	.config_changed = config_changed,
};
module_pvkit_driver(pvkit_blk_driver);

MODULE_ALIAS("pvkit:c0001");
MODULE_DESCRIPTION("Disks of a pvkit host");
MODULE_LICENSE("GPL");
