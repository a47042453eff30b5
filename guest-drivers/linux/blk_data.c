// SPDX-License-Identifier: GPL-2.0
/* Requests of the block layer on the rings, and back. */
#include <linux/blk-mq.h>
#include <linux/highmem.h>
#include <linux/slab.h>
#include "blk.h"

/* The four words of a slot, less what the ring adds. */
struct slot {
	u8 op;
	u8 flags;
	u16 aux;
	u64 position;
	u64 word2;
	u64 word3;
};

static void release(struct pvblk *disk, struct request *rq)
{
	struct pvblk_request *own = blk_mq_rq_to_pdu(rq);

	if (own->bounce)
		pvkit_free(disk->device, own->bounce, own->bounce_bytes);
	kfree(own->list);
	own->bounce = NULL;
	own->list = NULL;
}

/* Between the request's memory and its place in the window. */
static void copy(struct request *rq, void *window, bool to_window)
{
	struct req_iterator iter;
	struct bio_vec bv;

	rq_for_each_segment(bv, rq, iter) {
		if (to_window)
			memcpy_from_bvec(window, &bv);
		else
			memcpy_to_bvec(&bv, window);
		window += bv.bv_len;
	}
}

static blk_status_t bounce(struct pvblk *disk, struct request *rq, struct slot *slot)
{
	struct pvblk_request *own = blk_mq_rq_to_pdu(rq);
	u32 grant;

	own->bounce_bytes = blk_rq_bytes(rq);
	own->bounce = pvkit_alloc(disk->device, own->bounce_bytes, GFP_ATOMIC);
	if (!own->bounce)
		return BLK_STS_RESOURCE;
	if (pvkit_locate_virt(disk->device, own->bounce, own->bounce_bytes, &grant, &slot->word3))
		return BLK_STS_IOERR;
	if (req_op(rq) == REQ_OP_WRITE)
		copy(rq, own->bounce, true);
	slot->word2 = grant | (u64)own->bounce_bytes << 32;
	return BLK_STS_OK;
}

/* Pieces that follow on one another become one. */
static bool joins(const struct pvkit_segment *last, u32 grant, u64 offset)
{
	return last->grant == grant && last->offset + last->length == offset;
}

/* The request's memory, named piece by piece; how many pieces, or an error. */
static int name_pieces(struct pvblk *disk, struct request *rq, struct pvkit_segment *list, u32 room)
{
	struct req_iterator iter;
	struct bio_vec bv;
	u32 count = 0, grant;
	u64 offset;

	rq_for_each_bvec(bv, rq, iter) {
		if (pvkit_locate(disk->device, page_to_phys(bv.bv_page) + bv.bv_offset, bv.bv_len,
				 &grant, &offset))
			return -EFAULT;
		if (count && joins(&list[count - 1], grant, offset)) {
			list[count - 1].length += bv.bv_len;
			continue;
		}
		if (count == room)
			return -E2BIG;
		list[count++] = (struct pvkit_segment) {
			.grant = grant, .length = bv.bv_len, .offset = offset,
		};
	}
	return count;
}

static blk_status_t describe(struct pvblk *disk, struct request *rq, struct slot *slot)
{
	struct pvblk_request *own = blk_mq_rq_to_pdu(rq);
	struct pvkit_segment *list = own->segments;
	u32 room = PVBLK_INLINE, grant;
	int count;

	if (blk_rq_nr_phys_segments(rq) > room) {
		room = blk_rq_nr_phys_segments(rq);
		own->list = kmalloc_array(room, sizeof(*list), GFP_ATOMIC | __GFP_NOWARN);
		if (!own->list)
			return BLK_STS_RESOURCE;
		list = own->list;
	}
	count = name_pieces(disk, rq, list, room);
	if (count <= 0)
		return BLK_STS_IOERR;
	if (count == 1) {
		slot->word2 = list->grant | (u64)list->length << 32;
		slot->word3 = list->offset;
		return BLK_STS_OK;
	}
	if (pvkit_locate(disk->device, virt_to_phys(list), count * sizeof(*list),
			 &grant, &slot->word3))
		return BLK_STS_IOERR;
	slot->flags |= PVKIT_REQUEST_FLAGS_INDIRECT;
	slot->aux = count;
	slot->word2 = grant | (u64)(count * sizeof(*list)) << 32;
	return BLK_STS_OK;
}

static blk_status_t prepare(struct pvblk *disk, struct request *rq, struct slot *slot)
{
	slot->position = blk_rq_pos(rq) << SECTOR_SHIFT;
	if (rq->cmd_flags & REQ_FUA)
		slot->flags |= PVKIT_REQUEST_FLAGS_FUA;
	switch (req_op(rq)) {
	case REQ_OP_FLUSH:
		*slot = (struct slot) { .op = PVKIT_BLOCK_OP_FLUSH };
		return BLK_STS_OK;
	case REQ_OP_DISCARD:
		*slot = (struct slot) {
			.op = PVKIT_BLOCK_OP_DISCARD, .position = slot->position,
			.word3 = blk_rq_bytes(rq),
		};
		return BLK_STS_OK;
	case REQ_OP_WRITE_ZEROES:
		slot->op = PVKIT_BLOCK_OP_WRITE_ZEROES;
		slot->word3 = blk_rq_bytes(rq);
		return BLK_STS_OK;
	case REQ_OP_READ:
		slot->op = PVKIT_BLOCK_OP_READ;
		slot->flags = 0;
		break;
	case REQ_OP_WRITE:
		slot->op = PVKIT_BLOCK_OP_WRITE;
		break;
	default:
		return BLK_STS_NOTSUPP;
	}
	return pvkit_uses_window(disk->device) ? bounce(disk, rq, slot) : describe(disk, rq, slot);
}

static void commit(struct pvblk_queue *own)
{
	bool ring;

	spin_lock(&own->lock);
	ring = READ_ONCE(own->queue->open) && pvkit_queue_commit(own->queue);
	spin_unlock(&own->lock);
	if (ring)
		pvkit_queue_ring(own->queue);
}

static blk_status_t queue_rq(struct blk_mq_hw_ctx *hctx, const struct blk_mq_queue_data *bd)
{
	struct pvblk_queue *own = hctx->driver_data;
	struct pvblk *disk = own->disk;
	struct request *rq = bd->rq;
	struct slot slot = {};
	blk_status_t status;
	bool ring = false;
	int ret;

	if (unlikely(READ_ONCE(disk->dying)))
		return BLK_STS_IOERR;
	status = prepare(disk, rq, &slot);
	if (unlikely(status)) {
		release(disk, rq);
		return status;
	}
	blk_mq_start_request(rq);
	spin_lock(&own->lock);
	ret = pvkit_queue_push(own->queue, slot.op, slot.flags, rq->tag, slot.aux,
			       slot.position, slot.word2, slot.word3);
	if (likely(!ret) && bd->last)
		ring = pvkit_queue_commit(own->queue);
	spin_unlock(&own->lock);
	if (unlikely(ret)) {
		/* Between epochs: the block layer tries again a little later. */
		release(disk, rq);
		return READ_ONCE(disk->dying) ? BLK_STS_IOERR : BLK_STS_RESOURCE;
	}
	if (ring)
		pvkit_queue_ring(own->queue);
	return BLK_STS_OK;
}

static void commit_rqs(struct blk_mq_hw_ctx *hctx)
{
	commit(hctx->driver_data);
}

/* On the CPU that submitted it. */
static void finish(struct request *rq)
{
	struct pvblk_request *own = blk_mq_rq_to_pdu(rq);
	struct pvblk *disk = rq->q->queuedata;

	if (own->bounce && req_op(rq) == REQ_OP_READ && own->status == PVKIT_STATUS_OK)
		copy(rq, own->bounce, false);
	release(disk, rq);
	blk_mq_end_request(rq, errno_to_blk_status(pvkit_status_to_errno(own->status)));
}

void pvblk_interrupt(struct pvkit_queue *queue)
{
	struct pvblk_queue *own = queue->context;
	struct blk_mq_tags *tags = own->disk->set.tags[own->index];
	struct pvkit_completion done;
	struct request *rq;

	do {
		while (pvkit_queue_pop(queue, &done)) {
			rq = blk_mq_tag_to_rq(tags, done.id);
			((struct pvblk_request *)blk_mq_rq_to_pdu(rq))->status = done.status;
			if (!blk_mq_complete_request_remote(rq))
				finish(rq);
		}
	} while (pvkit_queue_arm(queue, 0));
}

/* A request whose epoch has ended is submitted again in the next one: all can be repeated. */
void pvblk_requeue(void *context, u16 id)
{
	struct pvblk_queue *own = context;
	struct request *rq = blk_mq_tag_to_rq(own->disk->set.tags[own->index], id);

	release(own->disk, rq);
	blk_mq_requeue_request(rq, false);
}

/*
 * The host keeps a request for ever: it ends in an error, and the pages of its
 * data, or its place in the window, are nobody else's any more.
 */
void pvblk_lose(void *context, u16 id)
{
	struct pvblk_queue *own = context;
	struct request *rq = blk_mq_tag_to_rq(own->disk->set.tags[own->index], id);
	struct pvblk_request *pdu = blk_mq_rq_to_pdu(rq);
	struct req_iterator iter;
	struct bio_vec bv;

	if (!pdu->bounce && (req_op(rq) == REQ_OP_READ || req_op(rq) == REQ_OP_WRITE))
		rq_for_each_segment(bv, rq, iter)
			get_page(bv.bv_page);
	pdu->bounce = NULL;
	pdu->list = NULL;
	blk_mq_end_request(rq, BLK_STS_IOERR);
}

/*
 * A request is the host's until it completes it or lets go of the queue; no
 * clock of ours changes that. Either side may have missed the other's knock,
 * though, if one of them is faulty: knock, and look.
 */
static enum blk_eh_timer_return timeout(struct request *rq)
{
	struct pvblk_queue *own = rq->mq_hctx->driver_data;
	struct pvkit_queue *queue = own->queue;

	dev_warn_ratelimited(&own->disk->device->dev,
			     "no completion of request %d of queue %u for %u s\n",
			     rq->tag, own->index, rq->timeout / HZ);
	if (READ_ONCE(own->disk->leaving))
		schedule_work(&own->disk->give_up);
	if (READ_ONCE(queue->open)) {
		pvkit_queue_ring(queue);
		pvkit_queue_poll(queue);
	}
	return BLK_EH_RESET_TIMER;
}

static int init_hctx(struct blk_mq_hw_ctx *hctx, void *data, unsigned int index)
{
	struct pvblk *disk = data;

	hctx->driver_data = &disk->queues[index];
	return 0;
}

static int init_request(struct blk_mq_tag_set *set, struct request *rq, unsigned int index,
			unsigned int node)
{
	struct pvblk_request *own = blk_mq_rq_to_pdu(rq);

	own->bounce = NULL;
	own->list = NULL;
	return 0;
}

const struct blk_mq_ops pvblk_ops = {
	.queue_rq = queue_rq,
	.commit_rqs = commit_rqs,
	.complete = finish,
	.timeout = timeout,
	.init_hctx = init_hctx,
	.init_request = init_request,
};
