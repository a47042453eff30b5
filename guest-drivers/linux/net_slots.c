// SPDX-License-Identifier: GPL-2.0
/*
 * Where the frames of a transmit queue lie, by id. With all of RAM shared the
 * host reads them where they are; else they are copied into chunks of memory
 * that it may see. Several segments are named by a list, which the host reads
 * once.
 */
#include <linux/slab.h>
#include "net.h"

static void interrupt(struct pvkit_queue *queue)
{
	struct pvkit_net_tx *tx = queue->context;

	napi_schedule_irqoff(&tx->napi);
}

static size_t chunks_bytes(const struct pvkit_net *net)
{
	return (size_t)net->chunk_count * net->chunk_bytes;
}

static void reset(struct pvkit_net_tx *tx)
{
	u32 i;

	for (i = 0; i < tx->net->depth; i++)
		tx->free[i] = i;
	tx->free_count = tx->net->depth;
	for (i = 0; tx->chunks && i < tx->net->chunk_count; i++)
		tx->free_chunks[i] = i;
	tx->free_chunk_count = tx->chunks ? tx->net->chunk_count : 0;
	tx->watched = false;
	tx->bytes = 0;
	tx->held = 0;
}

int pvkit_net_tx_create(struct pvkit_net_tx *tx)
{
	struct pvkit_net *net = tx->net;

	u64_stats_init(&tx->stats.sync);
	timer_setup(&tx->lazy, pvkit_net_tx_timer, 0);
	netif_napi_add_tx(net->dev, &tx->napi, pvkit_net_tx_poll);
	tx->txq = netdev_get_tx_queue(net->dev, tx->index);
	tx->slots = kcalloc(net->depth, sizeof(*tx->slots), GFP_KERNEL);
	tx->free = kcalloc(net->depth, sizeof(*tx->free), GFP_KERNEL);
	tx->lists = pvkit_alloc(net->device, net->depth * PVKIT_NET_LIST_BYTES, GFP_KERNEL);
	if (!tx->slots || !tx->free || !tx->lists)
		return -ENOMEM;
	if (net->copies) {
		tx->chunks = pvkit_alloc(net->device, chunks_bytes(net), GFP_KERNEL);
		tx->free_chunks = kcalloc(net->chunk_count, sizeof(*tx->free_chunks), GFP_KERNEL);
		if (!tx->chunks || !tx->free_chunks)
			return -ENOMEM;
	}
	reset(tx);
	tx->queue = pvkit_queue_create(net->device, 2 * tx->index + 1, net->depth,
				       PVKIT_RING_COMPLETION_BYTES, interrupt, tx,
				       get_cpu_mask(cpumask_local_spread(tx->index, NUMA_NO_NODE)));
	return PTR_ERR_OR_ZERO(tx->queue);
}

/* Nothing is in flight, or the device is stuck. */
void pvkit_net_tx_destroy(struct pvkit_net_tx *tx)
{
	struct pvkit_net *net = tx->net;

	pvkit_queue_destroy(tx->queue);
	if (tx->napi.dev) {
		del_timer_sync(&tx->lazy);
		netif_napi_del(&tx->napi);
	}
	if (!pvkit_stuck(net->device)) {
		pvkit_free(net->device, tx->lists, net->depth * PVKIT_NET_LIST_BYTES);
		pvkit_free(net->device, tx->chunks, chunks_bytes(net));
	}
	kfree(tx->free_chunks);
	kfree(tx->slots);
	kfree(tx->free);
}

int pvkit_net_tx_connect(struct pvkit_net_tx *tx)
{
	struct pvkit_net *net = tx->net;
	int ret;

	ret = pvkit_locate_virt(net->device, tx->lists, net->depth * PVKIT_NET_LIST_BYTES,
				&tx->lists_grant, &tx->lists_offset);
	if (!ret && tx->chunks)
		ret = pvkit_locate_virt(net->device, tx->chunks, chunks_bytes(net),
					&tx->chunks_grant, &tx->chunks_offset);
	return ret ?: pvkit_queue_open(tx->queue);
}

/* The epoch has ended: frames in flight are lost. Nobody sends, no NAPI runs. */
void pvkit_net_tx_disconnected(struct pvkit_net_tx *tx)
{
	struct pvkit_net_stats *stats = &tx->stats;
	u32 i;

	pvkit_queue_detached(tx->queue);
	for (i = 0; i < tx->net->depth; i++) {
		struct pvkit_net_slot *slot = &tx->slots[i];

		if (!test_bit(i, tx->queue->in_flight))
			continue;
		pvkit_net_count(stats, &stats->drops);
		/* Of a device that is stuck it stays with the host. */
		if (slot->skb && !pvkit_stuck(tx->net->device))
			dev_kfree_skb_any(slot->skb);
		slot->skb = NULL;
	}
	netdev_tx_reset_queue(tx->txq);
	reset(tx);
}

void pvkit_net_tx_start(struct pvkit_net_tx *tx)
{
	napi_enable(&tx->napi);
	/* It takes what was completed meanwhile. */
	local_bh_disable();
	napi_schedule(&tx->napi);
	local_bh_enable();
}

/*
 * Nobody sends any more, and the NAPI is disabled. What is still in flight must
 * not keep its sockets waiting.
 */
void pvkit_net_tx_stop(struct pvkit_net_tx *tx)
{
	u32 i;

	del_timer_sync(&tx->lazy);
	__netif_tx_lock_bh(tx->txq);
	for (i = 0; i < tx->net->depth; i++)
		if (tx->slots[i].skb)
			skb_orphan(tx->slots[i].skb);
	__netif_tx_unlock_bh(tx->txq);
}

static int name(const struct pvkit_net_tx *tx, phys_addr_t at, u32 bytes,
		struct pvkit_segment *segment)
{
	segment->length = bytes;
	return pvkit_locate(tx->net->device, at, bytes, &segment->grant, &segment->offset);
}

/* Names the frame where it lies; how many segments it has. */
static int name_all(const struct pvkit_net_tx *tx, const struct sk_buff *skb,
		    struct pvkit_segment *list)
{
	const struct skb_shared_info *shared = skb_shinfo(skb);
	int count = 0, ret, i;

	if (skb_headlen(skb)) {
		ret = name(tx, virt_to_phys(skb->data), skb_headlen(skb), &list[count++]);
		if (ret)
			return ret;
	}
	for (i = 0; i < shared->nr_frags; i++) {
		const skb_frag_t *frag = &shared->frags[i];

		ret = name(tx, page_to_phys(skb_frag_page(frag)) + skb_frag_off(frag),
			   skb_frag_size(frag), &list[count++]);
		if (ret)
			return ret;
	}
	return count;
}

/* Copies the frame into chunks of its slot; how many. There are enough. */
static int copy_all(struct pvkit_net_tx *tx, struct pvkit_net_slot *slot,
		    const struct sk_buff *skb, struct pvkit_segment *list)
{
	u32 chunk_bytes = tx->net->chunk_bytes, done, part;
	size_t at;
	int count = 0;

	for (done = 0; done < skb->len; done += part) {
		part = min(skb->len - done, chunk_bytes);
		at = (size_t)tx->free_chunks[tx->free_chunk_count - 1 - count] * chunk_bytes;
		if (skb_copy_bits(skb, done, tx->chunks + at, part))
			return -EFAULT;
		list[count].grant = tx->chunks_grant;
		list[count].length = part;
		list[count].offset = tx->chunks_offset + at;
		count++;
	}
	for (slot->chunk_count = 0; slot->chunk_count < count; slot->chunk_count++)
		slot->chunks[slot->chunk_count] = tx->free_chunks[--tx->free_chunk_count];
	return count;
}

/*
 * Makes the frame readable for the host. How many segments it has, and in
 * @place the only one, or the list.
 */
int pvkit_net_slot_fill(struct pvkit_net_tx *tx, u16 id, struct sk_buff *skb,
			struct pvkit_segment *place)
{
	struct pvkit_segment list[PVKIT_NET_SEGMENTS];
	size_t at = id * PVKIT_NET_LIST_BYTES;
	int count;

	if (tx->chunks)
		count = copy_all(tx, &tx->slots[id], skb, list);
	else
		count = name_all(tx, skb, list);
	if (count == 1)
		*place = list[0];
	if (count <= 1)
		return count;
	memcpy(tx->lists + at, list, count * sizeof(*list));
	*place = (struct pvkit_segment) {
		.grant = tx->lists_grant,
		.length = count * sizeof(*list),
		.offset = tx->lists_offset + at,
	};
	return count;
}

/* The host no longer needs what is in it. */
void pvkit_net_slot_release(struct pvkit_net_tx *tx, u16 id, int budget)
{
	struct pvkit_net_slot *slot = &tx->slots[id];

	if (slot->skb)
		napi_consume_skb(slot->skb, budget);
	slot->skb = NULL;
	while (slot->chunk_count)
		tx->free_chunks[tx->free_chunk_count++] = slot->chunks[--slot->chunk_count];
	tx->bytes -= slot->bytes;
	tx->held -= slot->held;
	slot->held = false;
	WRITE_ONCE(tx->free_count, tx->free_count + 1);
	tx->free[tx->free_count - 1] = id;
}
