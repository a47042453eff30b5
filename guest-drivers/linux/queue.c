// SPDX-License-Identifier: GPL-2.0
/*
 * A queue of a device: its memory, its port, its opening. What is done per
 * request is in pvkit_bus.h.
 */
#include <linux/bitmap.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include "pvkit_host.h"

/* Doorbells lie here; a host that says otherwise is not believed. */
static bool is_doorbell(u64 port)
{
	return port >= PVKIT_DISCOVERY_DOORBELL_PORT_BASE &&
	       port < PVKIT_DISCOVERY_DOORBELL_PORT_BASE + 4 * PVKIT_DISCOVERY_MAX_DOORBELLS &&
	       port % 4 == 0;
}

static void free_queue(struct pvkit_queue *queue)
{
	pvkit_free(queue->device, queue->request_area, queue->request_bytes);
	pvkit_free(queue->device, queue->completion_area, queue->area_bytes);
	bitmap_free(queue->in_flight);
	kfree(queue->submitted);
	kfree(queue);
}

/*
 * Memory and an interrupt for queue @index. @interrupt is called in interrupt
 * context; @affinity must stay as long as the queue.
 */
struct pvkit_queue *pvkit_queue_create(struct pvkit_device *device, u16 index, u32 depth,
				       u16 completion_bytes,
				       void (*interrupt)(struct pvkit_queue *queue), void *context,
				       const struct cpumask *affinity)
{
	struct pvkit_queue *queue;
	struct pvkit_port *port;
	char name[32];

	if (!is_power_of_2(depth) || depth < PVKIT_RING_MIN_DEPTH ||
	    depth > device->offer.max_depth)
		return ERR_PTR(-EINVAL);
	queue = kzalloc(sizeof(*queue), GFP_KERNEL);
	if (!queue)
		return ERR_PTR(-ENOMEM);
	queue->device = device;
	queue->index = index;
	queue->depth = depth;
	queue->completion_bytes = completion_bytes;
	queue->interrupt = interrupt;
	queue->context = context;
	INIT_LIST_HEAD(&queue->on_port);
	queue->submitted = kcalloc(depth, sizeof(*queue->submitted), GFP_KERNEL);
	queue->in_flight = bitmap_zalloc(depth, GFP_KERNEL);
	queue->request_bytes = pvkit_area_pages(depth, PVKIT_RING_REQUEST_BYTES) * PAGE_SIZE;
	queue->area_bytes = pvkit_area_pages(depth, completion_bytes) * PAGE_SIZE;
	queue->request_area = pvkit_alloc(device, queue->request_bytes, GFP_KERNEL);
	queue->completion_area = pvkit_alloc(device, queue->area_bytes, GFP_KERNEL);
	if (!queue->submitted || !queue->in_flight || !queue->request_area ||
	    !queue->completion_area) {
		free_queue(queue);
		return ERR_PTR(-ENOMEM);
	}
	snprintf(name, sizeof(name), "%s-%u", dev_name(&device->dev), index);
	port = pvkit_port_get(device->host, name, affinity);
	if (IS_ERR(port)) {
		free_queue(queue);
		return ERR_CAST(port);
	}
	queue->port = port;
	pvkit_port_add(port, queue);
	list_add_tail(&queue->on_device, &device->queue_list);
	return queue;
}
EXPORT_SYMBOL_GPL(pvkit_queue_create);

/* The queue is detached; or its device is stuck: then its memory stays with the host. */
void pvkit_queue_destroy(struct pvkit_queue *queue)
{
	if (IS_ERR_OR_NULL(queue))
		return;
	list_del(&queue->on_device);
	pvkit_port_remove(queue->port, queue);
	pvkit_port_put(queue->device->host, queue->port);
	if (pvkit_stuck(queue->device)) {
		queue->request_area = NULL;
		queue->completion_area = NULL;
	}
	free_queue(queue);
}
EXPORT_SYMBOL_GPL(pvkit_queue_destroy);

static int request_open(struct pvkit_queue *queue, struct pvkit_reply *reply)
{
	struct pvkit_device *device = queue->device;
	struct pvkit_open_queue body = {
		.queue = queue->index,
		.completion_bytes = queue->completion_bytes,
		.depth = queue->depth,
		.event_port = pvkit_port_number(queue->port),
	};
	u64 *list;
	int ret;

	list = (u64 *)get_zeroed_page(GFP_KERNEL);
	if (!list)
		return -ENOMEM;
	pvkit_list_pages(device, queue->request_area, queue->request_bytes, list);
	pvkit_list_pages(device, queue->completion_area, queue->area_bytes,
			 list + queue->request_bytes / PAGE_SIZE);
	body.page_list = virt_to_phys(list);
	ret = pvkit_bus_request(device->host, device->id, device->epoch, PVKIT_KIND_OPEN_QUEUE,
				&body, sizeof(body), reply);
	if (ret != -ETIMEDOUT)
		free_page((unsigned long)list);
	return ret;
}

/* Connects a queue in its device's epoch. Nothing of an earlier epoch is left in it. */
int pvkit_queue_open(struct pvkit_queue *queue)
{
	struct pvkit_device *device = queue->device;
	u32 words = queue->completion_bytes / sizeof(u64);
	struct pvkit_reply reply;
	int ret;

	if (WARN_ON(queue->open))
		return -EBUSY;
	memset(queue->request_area, 0, queue->request_bytes);
	bitmap_zero(queue->in_flight, queue->depth);
	pvkit_area_set_epoch(queue->request_area, device->epoch);
	pvkit_producer_init(&queue->requests, queue->request_area, queue->completion_area,
			    queue->depth, PVKIT_MAX_WORDS);
	ret = request_open(queue, &reply);
	if (ret)
		return ret;
	if (pvkit_area_epoch(queue->completion_area) != device->epoch) {
		dev_err(&device->dev, "queue %u: the host's ring is of another epoch\n",
			queue->index);
		return -EPROTO;
	}
	switch (reply.values[0]) {
	case PVKIT_DOORBELL_KIND_NONE:
		queue->doorbell = 0;
		break;
	case PVKIT_DOORBELL_KIND_PORT:
		if (is_doorbell(reply.values[1])) {
			queue->doorbell = reply.values[1];
			break;
		}
		fallthrough;
	default:
		dev_err(&device->dev, "queue %u: no doorbell of kind %llu at %#llx is known here\n",
			queue->index, reply.values[0], reply.values[1]);
		return -EPROTO;
	}
	pvkit_consumer_init(&queue->completions, queue->completion_area, queue->request_area,
			    queue->depth, words);
	WRITE_ONCE(queue->latched, false);
	/* Pairs with tell() in port.c: who finds it open finds its rings made ready. */
	smp_store_release(&queue->open, true);
	return 0;
}
EXPORT_SYMBOL_GPL(pvkit_queue_open);

/*
 * The epoch has ended: the host no longer looks. Ids in flight stay noted for
 * pvkit_queue_for_each_in_flight().
 */
void pvkit_queue_detached(struct pvkit_queue *queue)
{
	if (IS_ERR_OR_NULL(queue))
		return;
	WRITE_ONCE(queue->open, false);
	pvkit_port_sync(queue->port);
}
EXPORT_SYMBOL_GPL(pvkit_queue_detached);

/* Looks as if its interrupt had come, from any context but that. */
void pvkit_queue_poll(struct pvkit_queue *queue)
{
	pvkit_port_poll(queue->port);
}
EXPORT_SYMBOL_GPL(pvkit_queue_poll);

/* Nothing is taken any more before a new epoch, which is asked for. */
void pvkit_queue_latch(struct pvkit_queue *queue, const char *why)
{
	if (READ_ONCE(queue->latched))
		return;
	WRITE_ONCE(queue->latched, true);
	dev_err_ratelimited(&queue->device->dev, "queue %u: %s; the device is started anew\n",
			    queue->index, why);
	pvkit_restart(queue->device);
}
EXPORT_SYMBOL_GPL(pvkit_queue_latch);

/* The older one first; indices wrap, and two in flight are never half of their range apart. */
static int by_age(const void *left, const void *right, const void *context)
{
	const struct pvkit_queue *queue = context;

	return (s32)(queue->submitted[*(const u16 *)left] - queue->submitted[*(const u16 *)right]);
}

void pvkit_queue_for_each_in_flight(struct pvkit_queue *queue,
				    void (*visit)(void *context, u16 id), void *context)
{
	u32 count = 0, i;
	u16 *ids;

	if (WARN_ON(queue->open))
		return;
	/* At most 8 KiB: the kernel does not refuse that. */
	ids = kmalloc_array(queue->depth, sizeof(*ids), GFP_NOIO | __GFP_NOFAIL);
	for_each_set_bit(i, queue->in_flight, queue->depth)
		ids[count++] = i;
	bitmap_zero(queue->in_flight, queue->depth);
	sort_r(ids, count, sizeof(*ids), by_age, NULL, queue);
	for (i = 0; i < count; i++)
		visit(context, ids[i]);
	kfree(ids);
}
EXPORT_SYMBOL_GPL(pvkit_queue_for_each_in_flight);
