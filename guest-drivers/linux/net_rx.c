// SPDX-License-Identifier: GPL-2.0
/*
 * Frames in. With all of RAM shared, pages are posted and become fragments of
 * what is handed on; of the window, pages are posted for ever and copied from.
 *
 * Nothing is handed on that cannot be as the host says: such a frame is dropped
 * and counted. A host that breaks the protocol of the queue costs the device.
 */
#include <linux/slab.h>
#include "net.h"

/* A frame of which parts were taken. */
struct frame {
	struct sk_buff *skb;
	u64 meta;
	u64 hash;
	u32 length;
	bool wrong;
	bool dropped;		/* for want of memory */
};

static const void *bytes_of(const struct pvkit_net_rx *rx, u16 id)
{
	return rx->buffers ? rx->buffers + id * PAGE_SIZE : page_address(rx->pages[id]);
}

/* What a buffer holds, in a page that is the caller's. */
static struct page *take_page(struct pvkit_net_rx *rx, u16 id, u32 size)
{
	struct page *page;

	if (!rx->buffers) {
		page = rx->pages[id];
		rx->pages[id] = NULL;
		return page;
	}
	page = dev_alloc_page();
	if (page)
		memcpy(page_address(page), bytes_of(rx, id), size);
	return page;
}

static bool begin(struct pvkit_net_rx *rx, struct frame *frame, u16 id, u32 size)
{
	struct sk_buff *skb = napi_alloc_skb(&rx->napi, PVKIT_NET_COPY);
	struct page *page;
	u32 headers;

	if (!skb)
		return false;
	if (size <= PVKIT_NET_COPY) {
		skb_put_data(skb, bytes_of(rx, id), size);
		frame->skb = skb;
		return true;
	}
	page = take_page(rx, id, size);
	if (!page) {
		kfree_skb(skb);
		return false;
	}
	/* Headers alone in the linear part: then GRO joins the pages without copying. */
	headers = eth_get_headlen(rx->net->dev, page_address(page), PVKIT_NET_COPY);
	skb_put_data(skb, page_address(page), headers);
	skb_add_rx_frag(skb, 0, page, headers, size - headers, PAGE_SIZE);
	frame->skb = skb;
	return true;
}

static bool extend(struct pvkit_net_rx *rx, struct frame *frame, u16 id, u32 size)
{
	struct page *page = take_page(rx, id, size);

	if (!page)
		return false;
	skb_add_rx_frag(frame->skb, skb_shinfo(frame->skb)->nr_frags, page, 0, size, PAGE_SIZE);
	return true;
}

/* Whether the frame can have this part. */
static bool can_be(const struct pvkit_net *net, const struct frame *frame,
		   const struct pvkit_completion *completion, bool more)
{
	bool mergeable = pvkit_net_has(net, PVKIT_NET_FEATURES_MERGEABLE);
	u32 size = completion->detail;

	if (!size || size > net->buffer_bytes || size > PVKIT_NET_MAX_FRAME - frame->length)
		return false;
	if (more && (size != net->buffer_bytes || !mergeable))
		return false;
	if (frame->skb && skb_shinfo(frame->skb)->nr_frags == MAX_SKB_FRAGS)
		return false;
	return !completion->words[3];
}

static void join(struct pvkit_net_rx *rx, struct frame *frame,
		 const struct pvkit_completion *completion, bool more)
{
	u32 size = completion->detail;
	u16 id = completion->id;

	if (!can_be(rx->net, frame, completion, more))
		frame->wrong = true;
	if (frame->wrong || frame->dropped)
		return;
	if (!frame->skb)
		frame->dropped = !begin(rx, frame, id, size);
	else
		frame->dropped = !extend(rx, frame, id, size);
	frame->length += size;
}

static void hand_on(struct pvkit_net_rx *rx, struct frame *frame)
{
	struct pvkit_net_stats *stats = &rx->stats;
	struct sk_buff *skb = frame->skb;

	if (frame->wrong || frame->dropped ||
	    !pvkit_net_believe(rx->net, skb, frame->meta, frame->hash)) {
		pvkit_net_count(stats, frame->dropped ? &stats->drops : &stats->errors);
		kfree_skb(skb);
		return;
	}
	u64_stats_update_begin(&stats->sync);
	u64_stats_inc(&stats->packets);
	u64_stats_add(&stats->bytes, skb->len);
	u64_stats_update_end(&stats->sync);
	skb->protocol = eth_type_trans(skb, rx->net->dev);
	skb_record_rx_queue(skb, rx->index);
	napi_gro_receive(&rx->napi, skb);
}

/*
 * Takes one frame off the ring, in all its parts; false if there is none. Its
 * end is visible when its beginning is, and nothing is posted in between: at
 * most as many parts as the queue is deep.
 */
static bool receive(struct pvkit_net_rx *rx)
{
	struct pvkit_completion completion;
	struct frame frame = {};
	bool more, first = true;

	do {
		if (!pvkit_queue_pop(rx->queue, &completion)) {
			if (!first)
				pvkit_queue_latch(rx->queue, "a received frame has no end");
			kfree_skb(frame.skb);
			return false;
		}
		rx->idle[rx->idle_count++] = completion.id;
		if (unlikely(completion.status != PVKIT_STATUS_OK)) {
			/* Buffers are good: to post one again and again would help nobody. */
			if (completion.status != PVKIT_STATUS_ABORTED)
				pvkit_queue_latch(rx->queue, "the host refuses a receive buffer");
			kfree_skb(frame.skb);
			return false;
		}
		if (first) {
			frame.meta = completion.words[1];
			frame.hash = completion.words[2];
			first = false;
		}
		more = pvkit_frame_meta_flags(completion.words[1]) & PVKIT_FRAME_FLAGS_MORE;
		join(rx, &frame, &completion, more);
	} while (more);
	hand_on(rx, &frame);
	return true;
}

static int locate(struct pvkit_net_rx *rx, u16 id, gfp_t flags, u32 *grant, u64 *offset)
{
	if (rx->buffers) {
		*grant = rx->buffers_grant;
		*offset = rx->buffers_offset + id * PAGE_SIZE;
		return 0;
	}
	if (!rx->pages[id])
		rx->pages[id] = __dev_alloc_page(flags | __GFP_NOWARN);
	if (!rx->pages[id])
		return -ENOMEM;
	if (!pvkit_locate(rx->net->device, page_to_phys(rx->pages[id]), rx->net->buffer_bytes,
			  grant, offset))
		return 0;
	/* Of memory that is not shared: another one may be. */
	__free_page(rx->pages[id]);
	rx->pages[id] = NULL;
	return -ENOMEM;
}

/* Posts every buffer that is idle, with at most one doorbell. */
static void refill(struct pvkit_net_rx *rx, gfp_t flags)
{
	u64 offset, length = rx->net->buffer_bytes;
	int ret = 0;
	u32 grant;
	u16 id;

	while (rx->idle_count) {
		id = rx->idle[rx->idle_count - 1];
		ret = locate(rx, id, flags, &grant, &offset);
		if (!ret)
			ret = pvkit_queue_push(rx->queue, PVKIT_NET_OP_RECEIVE, 0, id, 0, 0,
					       grant | length << 32, offset);
		if (ret)
			break;
		rx->idle_count--;
	}
	if (pvkit_queue_commit(rx->queue))
		pvkit_queue_ring(rx->queue);
	/* So few are posted that no completion might come to try again. */
	if (ret == -ENOMEM && rx->idle_count > rx->net->depth / 2)
		mod_timer(&rx->again, jiffies + HZ / 20);
}

/* Posted in batches: each may cost a doorbell. */
static bool is_refill_due(const struct pvkit_net_rx *rx)
{
	return rx->idle_count > rx->net->depth / 4;
}

static int poll(struct napi_struct *napi, int budget)
{
	struct pvkit_net_rx *rx = container_of(napi, struct pvkit_net_rx, napi);
	int work = 0;

	pvkit_net_tx_clean(&rx->net->tx[rx->index], budget);
	while (work < budget && receive(rx))
		work++;
	if (is_refill_due(rx))
		refill(rx, GFP_ATOMIC);
	if (work == budget)
		return budget;
	/*
	 * Armed while the NAPI is still ours: later, another CPU might have
	 * gone on, and an old index in the event word would stop interrupts
	 * for ever. One that comes from now on makes the NAPI run again.
	 */
	if (pvkit_queue_arm(rx->queue, 0))
		return budget;
	napi_complete_done(napi, work);
	return work;
}

static void interrupt(struct pvkit_queue *queue)
{
	struct pvkit_net_rx *rx = queue->context;

	napi_schedule_irqoff(&rx->napi);
}

static void again(struct timer_list *timer)
{
	struct pvkit_net_rx *rx = container_of(timer, struct pvkit_net_rx, again);

	napi_schedule(&rx->napi);
}

int pvkit_net_rx_create(struct pvkit_net_rx *rx)
{
	struct pvkit_net *net = rx->net;
	u32 i;

	u64_stats_init(&rx->stats.sync);
	timer_setup(&rx->again, again, 0);
	netif_napi_add(net->dev, &rx->napi, poll);
	rx->idle = kcalloc(net->depth, sizeof(*rx->idle), GFP_KERNEL);
	if (!rx->idle)
		return -ENOMEM;
	for (i = 0; i < net->depth; i++)
		rx->idle[i] = i;
	rx->idle_count = net->depth;
	if (pvkit_uses_window(net->device))
		rx->buffers = pvkit_alloc(net->device, net->depth * PAGE_SIZE, GFP_KERNEL);
	else
		rx->pages = kcalloc(net->depth, sizeof(*rx->pages), GFP_KERNEL);
	if (!rx->buffers && !rx->pages)
		return -ENOMEM;
	rx->queue = pvkit_queue_create(net->device, 2 * rx->index, net->depth,
				       PVKIT_NET_RECEIVE_COMPLETION_BYTES, interrupt, rx,
				       get_cpu_mask(cpumask_local_spread(rx->index, NUMA_NO_NODE)));
	return PTR_ERR_OR_ZERO(rx->queue);
}

/* Nothing is in flight, or the device is stuck. */
void pvkit_net_rx_destroy(struct pvkit_net_rx *rx)
{
	struct pvkit_net *net = rx->net;
	u32 i;

	pvkit_queue_destroy(rx->queue);
	if (rx->napi.dev)
		netif_napi_del(&rx->napi);
	if (rx->buffers && !pvkit_stuck(net->device))
		pvkit_free(net->device, rx->buffers, net->depth * PAGE_SIZE);
	for (i = 0; rx->pages && i < net->depth; i++)
		if (rx->pages[i])
			__free_page(rx->pages[i]);
	kfree(rx->pages);
	kfree(rx->idle);
}

int pvkit_net_rx_connect(struct pvkit_net_rx *rx)
{
	struct pvkit_net *net = rx->net;

	if (rx->buffers) {
		int ret = pvkit_locate_virt(net->device, rx->buffers, net->depth * PAGE_SIZE,
					    &rx->buffers_grant, &rx->buffers_offset);

		if (ret)
			return ret;
	}
	return pvkit_queue_open(rx->queue);
}

/* The epoch has ended: what was posted is ours again; of a device that is stuck it is lost. */
void pvkit_net_rx_disconnected(struct pvkit_net_rx *rx)
{
	u32 i;

	pvkit_queue_detached(rx->queue);
	for (i = 0; i < rx->net->depth; i++) {
		if (rx->pages && pvkit_stuck(rx->net->device) && test_bit(i, rx->queue->in_flight))
			rx->pages[i] = NULL;
		rx->idle[i] = i;
	}
	rx->idle_count = rx->net->depth;
}

/* What came while nobody listened is old: dropped. */
void pvkit_net_rx_start(struct pvkit_net_rx *rx)
{
	struct pvkit_completion completion;

	while (pvkit_queue_pop(rx->queue, &completion))
		rx->idle[rx->idle_count++] = completion.id;
	refill(rx, GFP_KERNEL);
	napi_enable(&rx->napi);
	/* It arms. */
	local_bh_disable();
	napi_schedule(&rx->napi);
	local_bh_enable();
}

void pvkit_net_rx_stop(struct pvkit_net_rx *rx)
{
	napi_disable(&rx->napi);
	del_timer_sync(&rx->again);
}
