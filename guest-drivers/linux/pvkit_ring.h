/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One direction of a ring, seen by its writer (producer) and by its reader
 * (consumer). abi/README.md, "Rings", tells the whole protocol; here is the
 * guest's half of each of its two stories.
 *
 * Everything that the other side writes is loaded once, by the functions
 * below, and checked where it was copied to.
 */
#ifndef PVKIT_RING_H
#define PVKIT_RING_H

#include <linux/compiler.h>
#include <linux/types.h>
#include <asm/barrier.h>
#include <pvkit.h>

#define PVKIT_MAX_WORDS 4

struct pvkit_producer {
	u64 *slots;		/* ours: the first slot */
	u64 *their_event;	/* theirs: the index that they sleep at */
	u32 mask;		/* slots - 1 */
	u32 words;		/* of 64 bits in a slot */
	u32 head;		/* next index */
	u32 published;		/* all below it is visible */
	u64 first;		/* word 0 of slot `published`, held back */
	u16 tag;		/* of the lap of `head` */
};

struct pvkit_consumer {
	u64 *slots;		/* theirs: the first slot */
	u64 *our_event;		/* ours: the index that we sleep at */
	u32 mask;
	u32 words;
	u32 tail;		/* next index */
	u16 tag;		/* what it will have once it is published */
	u16 old;		/* what the last lap left there; 0: nothing yet */
};

/*
 * An area is a header and its slots, written by one side. The event word of
 * the other side's area says where that side sleeps on this ring.
 */
static inline void pvkit_producer_init(struct pvkit_producer *ring, void *area,
				       void *their_area, u32 depth, u32 words)
{
	*ring = (struct pvkit_producer) {
		.slots = area + PVKIT_RING_HEADER_BYTES,
		.their_event = their_area + PVKIT_RING_EVENT_WORD,
		.mask = depth - 1,
		.words = words,
		.tag = PVKIT_RING_FIRST_TAG,
	};
}

static inline void pvkit_consumer_init(struct pvkit_consumer *ring, void *area,
				       void *our_area, u32 depth, u32 words)
{
	*ring = (struct pvkit_consumer) {
		.slots = area + PVKIT_RING_HEADER_BYTES,
		.our_event = our_area + PVKIT_RING_EVENT_WORD,
		.mask = depth - 1,
		.words = words,
		.tag = PVKIT_RING_FIRST_TAG,
	};
}

/* The owner's epoch, stored after its area was zeroed and before the peer looks at it. */
static inline void pvkit_area_set_epoch(void *area, u64 epoch)
{
	/* Pairs with the host's load of the epoch: it sees zeroed slots. */
	virt_store_release((u64 *)(area + PVKIT_RING_EPOCH_WORD), epoch);
}

static inline u64 pvkit_area_epoch(void *area)
{
	/* Pairs with the host's store of the epoch: its slots are zeroed. */
	return virt_load_acquire((u64 *)(area + PVKIT_RING_EPOCH_WORD));
}

/*
 * Stores one slot. Nothing is visible before pvkit_producer_commit(): a reader
 * goes in order, and the tag of a batch's first slot is stored last. The caller
 * knows that the slot is free: it never has more in flight than the depth.
 */
static inline void pvkit_producer_push(struct pvkit_producer *ring, u64 word,
				       u64 word1, u64 word2, u64 word3)
{
	u64 *slot = ring->slots + (size_t)(ring->head & ring->mask) * ring->words;

	word |= (u64)ring->tag << 48;
	if (ring->words == PVKIT_MAX_WORDS) {
		WRITE_ONCE(slot[1], word1);
		WRITE_ONCE(slot[2], word2);
		WRITE_ONCE(slot[3], word3);
	}
	if (ring->head == ring->published)
		ring->first = word;
	else
		WRITE_ONCE(slot[0], word);
	if ((++ring->head & ring->mask) == 0)
		ring->tag = pvkit_next_tag(ring->tag);
}

/*
 * Publishes what was pushed. True if the other side sleeps at one of these
 * slots and wants to be told.
 *
 * The fence stands between our store of the slot and our load of their event
 * word; theirs (pvkit_consumer_arm() and its like) between the store of the
 * event word and the load of the slot. Without both, each side may miss the
 * other's store, and they sleep for ever.
 */
static inline bool pvkit_producer_commit(struct pvkit_producer *ring)
{
	u32 count = ring->head - ring->published, event;
	u64 *slot = ring->slots + (size_t)(ring->published & ring->mask) * ring->words;

	if (!count)
		return false;
	/* Pairs with the taker's load of the tag: it sees all words of the batch. */
	virt_store_release(slot, ring->first);
	/* The slot is visible before their event word is read; see above. */
	virt_mb();
	event = (u32)READ_ONCE(*ring->their_event);
	event -= ring->published;
	ring->published = ring->head;
	return event < count;
}

/*
 * Takes one slot into @to. 1: taken, 0: nothing there, -EPROTO: the tag is out
 * of turn; the caller latches the ring.
 */
static inline int pvkit_consumer_take(struct pvkit_consumer *ring, u64 *to)
{
	u64 *slot = ring->slots + (size_t)(ring->tail & ring->mask) * ring->words;
	/* Pairs with the publisher's store of the tag: the other words are there. */
	u64 word = virt_load_acquire(slot);
	u32 i;

	if (pvkit_tag(word) == ring->old)
		return 0;
	if (pvkit_tag(word) != ring->tag)
		return -EPROTO;
	to[0] = word;
	for (i = 1; i < ring->words; i++)
		to[i] = READ_ONCE(slot[i]);
	if ((++ring->tail & ring->mask) == 0) {
		ring->old = ring->tag;
		ring->tag = pvkit_next_tag(ring->tag);
	}
	return 1;
}

/* Whether something (or nonsense) stands at the next slot. */
static inline bool pvkit_consumer_ready(struct pvkit_consumer *ring)
{
	u64 *slot = ring->slots + (size_t)(ring->tail & ring->mask) * ring->words;

	/* As in pvkit_consumer_take(). */
	return pvkit_tag(virt_load_acquire(slot)) != ring->old;
}

/*
 * Asks to be told when the slot @ahead of the next one is published. True if
 * something is there already: do not sleep. The fence pairs with the one of
 * the publisher.
 */
static inline bool pvkit_consumer_arm(struct pvkit_consumer *ring, u32 ahead)
{
	WRITE_ONCE(*ring->our_event, ring->tail + ahead);
	/* Our event word is visible before the slot is read; see above. */
	virt_mb();
	return pvkit_consumer_ready(ring);
}

#endif
