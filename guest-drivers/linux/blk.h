/* SPDX-License-Identifier: GPL-2.0 */
/* A disk of the host: what its files share. */
#ifndef PVKIT_BLK_H
#define PVKIT_BLK_H

#include <linux/blk-mq.h>
#include <linux/workqueue.h>
#include "pvkit_bus.h"

#define PVBLK_INLINE 16		/* segments of a list that lies in the request */
#define PVBLK_DEPTH 128

struct pvblk_queue {
	struct pvkit_queue *queue;
	spinlock_t lock;	/* of those who submit */
	cpumask_var_t cpus;	/* that submit here */
	u16 index;
	struct pvblk *disk;
};

struct pvblk {
	struct pvkit_device *device;
	struct gendisk *disk;
	struct blk_mq_tag_set set;
	struct pvblk_queue *queues;
	u16 queue_count;
	u32 depth;
	int number;
	u64 features;
	bool leaving;		/* ->remove() waits for what is in flight */
	struct work_struct give_up; /* for as long as it takes too long */
	bool quiet;		/* the block layer submits nothing */
	bool dying;		/* what is left ends in an error */
	struct pvkit_block_config config; /* checked */
};

/* Of one request, between its submission and its end. */
struct pvblk_request {
	u8 status;
	void *bounce;		/* window mode: the data */
	u32 bounce_bytes;
	struct pvkit_segment *list; /* a list that is too long for ours */
	struct pvkit_segment segments[PVBLK_INLINE];
};

/* blk_data.c */
extern const struct blk_mq_ops pvblk_ops;
void pvblk_interrupt(struct pvkit_queue *queue);
void pvblk_requeue(void *context, u16 id);
void pvblk_lose(void *context, u16 id);

/* blk_disk.c */
int pvblk_read_config(struct pvkit_device *device, struct pvkit_block_config *to);
u64 pvblk_choose(const struct pvkit_device *device);
struct gendisk *pvblk_alloc_disk(struct pvblk *disk);
int pvblk_add_disk(struct pvblk *disk);
void pvblk_set_capacity(struct pvblk *disk);

#endif
