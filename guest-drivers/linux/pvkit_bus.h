/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the drivers of devices use of the pvkit bus.
 *
 * Life of a device: offered (a struct device appears, the driver probes),
 * accepted (pvkit_accept()), queues opened (pvkit_queue_open()). Each of these
 * belongs to an epoch. When the epoch ends without the driver's doing (the
 * backend is gone, the machine sleeps), ->disconnect() is called: every queue
 * is detached by then, so what was in flight is the driver's again. When the
 * device is back ->reconnect() is called, which accepts and opens anew. Both,
 * and ->config_changed(), ->probe() and ->remove(), come one at a time.
 */
#ifndef PVKIT_BUS_H
#define PVKIT_BUS_H

#include <linux/device.h>
#include <linux/io.h>
#include <linux/list.h>
#include <linux/nospec.h>
#include <pvkit.h>
#include "pvkit_ring.h"

struct pvkit_host;
struct pvkit_port;

/* An extent of memory and the name under which a device's backend knows it. */
struct pvkit_extent {
	u64 base;
	u64 length;
	u32 grant;
};

struct pvkit_device {
	struct device dev;
	struct pvkit_host *host;
	struct list_head node;
	struct list_head queue_list;
	u32 id;
	u64 epoch;		/* in force, as far as we know */
	bool connected;		/* accepted in this epoch: queues may be open */
	bool lost;		/* ->disconnect() was called, ->reconnect() not yet */
	bool rescinded;		/* gone for good */
	bool stuck;		/* a CLOSE failed: its memory is not ours again */
	bool failed;		/* started anew too often: left alone */
	unsigned long restart;	/* bit 0: asked for */
	unsigned long restarts_since;
	u32 restarts;
	bool choice_made;
	u64 features;		/* chosen */
	u16 queues;		/* chosen */
	struct pvkit_offer offer; /* our copy, checked */
	struct pvkit_extent extents[PVKIT_DISCOVERY_MAX_REGIONS];
	u32 extent_count;
};

struct pvkit_driver {
	struct device_driver driver;
	u16 device_class;
	int (*probe)(struct pvkit_device *device);
	void (*remove)(struct pvkit_device *device);
	void (*disconnect)(struct pvkit_device *device);
	int (*reconnect)(struct pvkit_device *device);
	/* An error: the new configuration cannot be; the old one is the device's again. */
	int (*config_changed)(struct pvkit_device *device);
};

static inline struct pvkit_device *to_pvkit_device(struct device *dev)
{
	return container_of(dev, struct pvkit_device, dev);
}

int __pvkit_register_driver(struct pvkit_driver *driver, struct module *owner);
#define pvkit_register_driver(driver) __pvkit_register_driver(driver, THIS_MODULE)
void pvkit_unregister_driver(struct pvkit_driver *driver);

#define module_pvkit_driver(driver) \
	module_driver(driver, pvkit_register_driver, pvkit_unregister_driver)

/*
 * Takes the device with these features and so many queues, and lets its backend
 * use the memory that pvkit_alloc() and pvkit_locate() deal in. The choice of
 * the first time is kept: a later call with another one is -EINVAL.
 */
int pvkit_accept(struct pvkit_device *device, u64 features, u16 queues);

/*
 * Gives the device back. 0: every queue is detached. Else the memory of its
 * queues and of what is in flight must not be used again: pvkit_stuck().
 */
int pvkit_close(struct pvkit_device *device);

/* Whether it is gone for good: what waits for it ends in an error. */
static inline bool pvkit_gone(const struct pvkit_device *device)
{
	return READ_ONCE(device->rescinded) || READ_ONCE(device->failed);
}

static inline bool pvkit_stuck(const struct pvkit_device *device)
{
	return device->stuck;
}

int pvkit_control(struct pvkit_device *device, u16 operation, const void *data, u16 size);

/*
 * Asks for an end of the device's epoch and a new one, because it no longer
 * answers or answered nonsense: ->disconnect(), then ->reconnect(). From any
 * context.
 */
void pvkit_restart(struct pvkit_device *device);

/* Whether buffers must come from pvkit_alloc(): the backend sees the window alone. */
bool pvkit_uses_window(const struct pvkit_device *device);

/*
 * Memory that the backend may use, aligned to a page. In window mode it is
 * rewritten by the backend as it likes: copy, then look.
 */
void *pvkit_alloc(struct pvkit_device *device, size_t bytes, gfp_t flags);
void pvkit_free(struct pvkit_device *device, void *memory, size_t bytes);

/* Names memory from pvkit_alloc(). Always successful for such. */
int pvkit_locate_virt(const struct pvkit_device *device, const void *memory, u32 bytes,
		      u32 *grant, u64 *offset);

/* Names memory by its address: -EFAULT if no one extent holds all of it. */
static inline int pvkit_locate(const struct pvkit_device *device, phys_addr_t at, u32 bytes,
			       u32 *grant, u64 *offset)
{
	u32 i;

	for (i = 0; i < device->extent_count; i++) {
		const struct pvkit_extent *extent = &device->extents[i];

		if (at >= extent->base && at - extent->base < extent->length &&
		    bytes <= extent->length - (at - extent->base)) {
			*grant = extent->grant;
			*offset = at - extent->base;
			return 0;
		}
	}
	return -EFAULT;
}

/*
 * A queue. The driver serialises pvkit_queue_push() and pvkit_queue_commit()
 * among themselves, and pvkit_queue_pop() and pvkit_queue_arm(); the two pairs
 * may run at the same time.
 */
struct pvkit_queue {
	struct pvkit_device *device;
	void *context;
	void (*interrupt)(struct pvkit_queue *queue);
	u16 index;
	u16 completion_bytes;
	u32 depth;
	bool open;
	bool latched;		/* the host broke the protocol */
	u16 doorbell;		/* I/O port, 0: none */

	struct pvkit_producer requests ____cacheline_aligned;
	u32 *submitted;		/* index of the request with each id */
	u64 doorbells;

	struct pvkit_consumer completions ____cacheline_aligned;
	unsigned long *in_flight; /* ids */
	u64 interrupts;

	void *request_area ____cacheline_aligned;
	void *completion_area;
	size_t request_bytes;
	size_t area_bytes;	/* of the completion area */
	struct pvkit_port *port;
	struct list_head on_port;
	struct list_head on_device;
};

struct pvkit_queue *pvkit_queue_create(struct pvkit_device *device, u16 index, u32 depth,
				       u16 completion_bytes,
				       void (*interrupt)(struct pvkit_queue *queue), void *context,
				       const struct cpumask *affinity);
void pvkit_queue_destroy(struct pvkit_queue *queue);
int pvkit_queue_open(struct pvkit_queue *queue);
void pvkit_queue_detached(struct pvkit_queue *queue);
void pvkit_queue_poll(struct pvkit_queue *queue);
void pvkit_queue_latch(struct pvkit_queue *queue, const char *why);

static inline int pvkit_queue_push(struct pvkit_queue *queue, u8 op, u8 flags, u16 id, u16 aux,
				   u64 word1, u64 word2, u64 word3)
{
	if (unlikely(READ_ONCE(queue->latched) || !READ_ONCE(queue->open)))
		return -EIO;
	if (WARN_ON_ONCE(id >= queue->depth || test_and_set_bit(id, queue->in_flight)))
		return -EIO;
	queue->submitted[id] = queue->requests.head;
	pvkit_producer_push(&queue->requests, pvkit_request_word(op, flags, id, aux, 0),
			    word1, word2, word3);
	return 0;
}

static inline bool pvkit_queue_commit(struct pvkit_queue *queue)
{
	return pvkit_producer_commit(&queue->requests);
}

/* What pvkit_queue_commit() asked for; it may be done after the driver's lock is released. */
static inline void pvkit_queue_ring(struct pvkit_queue *queue)
{
	queue->doorbells++;
	if (queue->doorbell)
		outl(1, queue->doorbell);
}

struct pvkit_completion {
	u64 words[PVKIT_MAX_WORDS];
	u16 id;
	u8 status;
	u32 detail;
};

/* True: @to holds a completion whose id was in flight and no longer is. */
static inline bool pvkit_queue_pop(struct pvkit_queue *queue, struct pvkit_completion *to)
{
	u32 result;
	u16 id;
	int ret;

	if (unlikely(READ_ONCE(queue->latched)))
		return false;
	ret = pvkit_consumer_take(&queue->completions, to->words);
	if (!ret)
		return false;
	if (unlikely(ret < 0)) {
		pvkit_queue_latch(queue, "a completion's tag is out of turn");
		return false;
	}
	id = pvkit_completion_word_id(to->words[0]);
	if (unlikely(id >= queue->depth)) {
		pvkit_queue_latch(queue, "a completion names an id beyond the depth");
		return false;
	}
	id = array_index_nospec(id, queue->depth);
	if (unlikely(!test_and_clear_bit(id, queue->in_flight))) {
		pvkit_queue_latch(queue, "a completion names a request that is not in flight");
		return false;
	}
	result = pvkit_completion_word_result(to->words[0]);
	to->id = id;
	to->status = pvkit_completion_result_status(result);
	to->detail = pvkit_completion_result_detail(result);
	return true;
}

/* False: nothing is there, and an interrupt will come when @ahead + 1 more are. */
static inline bool pvkit_queue_arm(struct pvkit_queue *queue, u32 ahead)
{
	return !READ_ONCE(queue->latched) && pvkit_consumer_arm(&queue->completions, ahead);
}

/*
 * Calls @visit with each id that is in flight, in the order of submission, for
 * a queue that is detached.
 */
void pvkit_queue_for_each_in_flight(struct pvkit_queue *queue,
				    void (*visit)(void *context, u16 id), void *context);

/* The kernel's error for the status of a completion. */
int pvkit_status_to_errno(u8 status);

#endif
