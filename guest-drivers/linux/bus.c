// SPDX-License-Identifier: GPL-2.0
/*
 * The bus: four pages, two rings each way, and the messages on them. What the
 * host sends is copied out, judged and answered here; what it means is dealt
 * with in messages.c, by a work of its own, because that may take long.
 */
#include <linux/jiffies.h>
#include <linux/slab.h>
#include "pvkit_host.h"

/* How long a request may take; the host asks backends. */
#define DEADLINE (30 * HZ)

/* Looks at the rings before the rest is left to the next event; a host that floods gets no more. */
#define PASSES 64

static void *message_at(void *page, u32 id)
{
	return page + id * PVKIT_BUS_MESSAGE_BYTES;
}

static void *reply_at(void *page, u32 id)
{
	return page + PVKIT_BUS_REPLIES_OFFSET + id * PVKIT_BUS_REPLY_BYTES;
}

static void latch(struct pvkit_host *host, const char *why)
{
	if (host->bus.latched)
		return;
	host->bus.latched = true;
	dev_err(&host->pdev->dev, "the host broke the bus's protocol: %s; its devices stop\n", why);
	wake_up_all(&host->bus.room);
}

/* One reply of the host. */
static int take_reply(struct pvkit_host *host)
{
	struct pvkit_bus *bus = &host->bus;
	struct pvkit_wait *wait;
	u64 word;
	u16 id;
	int ret;

	ret = pvkit_consumer_take(&bus->replies, &word);
	if (ret <= 0)
		return ret;
	id = pvkit_completion_word_id(word);
	if (id >= PVKIT_BUS_DEPTH)
		return -EPROTO;
	id = array_index_nospec(id, PVKIT_BUS_DEPTH);
	if (!__test_and_clear_bit(id, &bus->in_flight))
		return -EPROTO;
	wait = &bus->waits[id];
	if (wait->abandoned) {
		__clear_bit(id, &bus->taken);
		wake_up(&bus->room);
		return 1;
	}
	pvkit_copy_in(&wait->reply, reply_at(bus->theirs[1], id), sizeof(wait->reply));
	complete(&wait->done);
	return 1;
}

/* A message's form; its meaning comes later. */
static s32 judge(const struct pvkit_message *message, u8 op)
{
	u32 i;

	if (message->kind != op || message->reserved || message->size > PVKIT_BUS_BODY_BYTES)
		return -(s32)PVKIT_CALL_ERROR_INVALID;
	for (i = message->size; i < PVKIT_BUS_BODY_BYTES; i++)
		if (message->body[i])
			return -(s32)PVKIT_CALL_ERROR_INVALID;
	switch (message->kind) {
	case PVKIT_KIND_OFFER:
	case PVKIT_KIND_RESCIND:
	case PVKIT_KIND_CONFIG_CHANGED:
	case PVKIT_KIND_STATE_CHANGED:
		return message->device ? 0 : -(s32)PVKIT_CALL_ERROR_NOT_FOUND;
	case PVKIT_KIND_OVERFLOW:
		return 0;
	default:
		return -(s32)PVKIT_CALL_ERROR_UNKNOWN;
	}
}

/* One message of the host: answered at once, kept for the work. */
static int take_message(struct pvkit_host *host)
{
	struct pvkit_bus *bus = &host->bus;
	struct pvkit_message *message;
	struct pvkit_reply reply = {};
	u64 words[PVKIT_MAX_WORDS];
	u16 id;
	int ret;

	/* No room: the host's own limit holds it back, and tells OVERFLOW later. */
	if (bus->backlog_head - bus->backlog_tail >= PVKIT_BACKLOG)
		return 0;
	ret = pvkit_consumer_take(&bus->messages, words);
	if (ret <= 0)
		return ret;
	id = pvkit_request_id(words[0]);
	if (id >= PVKIT_BUS_DEPTH || words[1] || words[2] || words[3])
		return -EPROTO;
	id = array_index_nospec(id, PVKIT_BUS_DEPTH);
	message = &bus->backlog[bus->backlog_head % PVKIT_BACKLOG];
	pvkit_copy_in(message, message_at(bus->theirs[1], id), sizeof(*message));
	reply.status = judge(message, pvkit_request_op(words[0]));
	reply.device = message->device;
	reply.epoch = message->epoch;
	if (reply.status)
		bus->refused++;
	else
		bus->backlog_head++;
	pvkit_copy_out(reply_at(bus->ours[1], id), &reply, sizeof(reply));
	pvkit_producer_push(&bus->answers,
			    pvkit_completion_word(id, pvkit_completion_result(reply.status ?
				PVKIT_STATUS_INVALID : PVKIT_STATUS_OK, 0), 0), 0, 0, 0);
	return 1;
}

/* Whether a look is to be repeated. */
static bool look(struct pvkit_host *host)
{
	struct pvkit_bus *bus = &host->bus;
	bool again, kick;
	int ret;

	while ((ret = take_reply(host)) > 0)
		;
	if (!ret)
		while ((ret = take_message(host)) > 0)
			;
	if (ret < 0) {
		latch(host, "a slot of its rings is impossible");
		return false;
	}
	kick = pvkit_producer_commit(&bus->requests);
	kick |= pvkit_producer_commit(&bus->answers);
	if (kick && pvkit_call(host, PVKIT_CALL_BUS_KICK, 0, 0, 0) < 0) {
		latch(host, "it took offence at ours");
		return false;
	}
	again = pvkit_consumer_arm(&bus->replies, 0);
	if (bus->backlog_head - bus->backlog_tail < PVKIT_BACKLOG)
		again |= pvkit_consumer_arm(&bus->messages, 0);
	return again;
}

static void take(struct pvkit_host *host)
{
	struct pvkit_bus *bus = &host->bus;
	u32 pass;

	for (pass = 0; bus->up && !bus->latched && pass < PASSES; pass++)
		if (!look(host))
			break;
	if (bus->backlog_head != bus->backlog_tail)
		queue_work(host->wq, &host->messages_work);
}

/* Takes what is there, and asks to be told of more. */
void pvkit_bus_take(struct pvkit_host *host)
{
	mutex_lock(&host->bus.lock);
	take(host);
	mutex_unlock(&host->bus.lock);
}

/* The oldest message that was not dealt with. */
bool pvkit_bus_next(struct pvkit_host *host, struct pvkit_message *message)
{
	struct pvkit_bus *bus = &host->bus;
	bool some;

	mutex_lock(&bus->lock);
	some = bus->backlog_head != bus->backlog_tail;
	if (some)
		*message = bus->backlog[bus->backlog_tail++ % PVKIT_BACKLOG];
	else
		take(host);	/* there may have been no room for it before */
	mutex_unlock(&bus->lock);
	return some;
}

static int free_id(struct pvkit_bus *bus)
{
	int id = find_first_zero_bit(&bus->taken, PVKIT_BUS_DEPTH);

	return id < PVKIT_BUS_DEPTH ? id : -1;
}

/* With the lock held, an id; without it, an error. */
static int wait_for_id(struct pvkit_host *host)
{
	struct pvkit_bus *bus = &host->bus;
	unsigned long end = jiffies + DEADLINE;
	int id;

	for (;;) {
		mutex_lock(&bus->lock);
		if (!bus->up || bus->latched) {
			mutex_unlock(&bus->lock);
			return -EIO;
		}
		id = free_id(bus);
		if (id >= 0)
			return id;
		mutex_unlock(&bus->lock);
		if (time_after(jiffies, end))
			return -ETIMEDOUT;
		wait_event_timeout(bus->room,
				   READ_ONCE(bus->latched) || !READ_ONCE(bus->up) ||
				   READ_ONCE(bus->taken) != BIT(PVKIT_BUS_DEPTH) - 1, HZ);
	}
}

/*
 * Asks and waits for the reply, whose copy is in @reply. A negative number of
 * the reply is translated. After a timeout the id stays taken until the reply
 * comes or the bus is set up anew.
 */
int pvkit_bus_request(struct pvkit_host *host, u32 device, u64 epoch, u8 kind, const void *body,
		      u16 size, struct pvkit_reply *reply)
{
	struct pvkit_message message = {
		.size = size, .kind = kind, .device = device, .epoch = epoch,
	};
	struct pvkit_bus *bus = &host->bus;
	struct pvkit_wait *wait;
	unsigned long left;
	int id;

	if (WARN_ON_ONCE(size > sizeof(message.body)))
		return -EINVAL;
	id = wait_for_id(host);
	if (id < 0)
		return id;
	memcpy(message.body, body, size);
	wait = &bus->waits[id];
	reinit_completion(&wait->done);
	wait->abandoned = false;
	memset(&wait->reply, 0, sizeof(wait->reply));
	__set_bit(id, &bus->taken);
	__set_bit(id, &bus->in_flight);
	pvkit_copy_out(message_at(bus->ours[1], id), &message, sizeof(message));
	pvkit_producer_push(&bus->requests, pvkit_request_word(kind, 0, id, 0, 0), 0, 0, 0);
	take(host);
	mutex_unlock(&bus->lock);

	left = wait_for_completion_timeout(&wait->done, DEADLINE);
	mutex_lock(&bus->lock);
	if (!left && !completion_done(&wait->done)) {
		wait->abandoned = true;
		mutex_unlock(&bus->lock);
		dev_warn(&host->pdev->dev, "no reply to message %#x for device %u within %u s\n",
			 kind, device, DEADLINE / HZ);
		return -ETIMEDOUT;
	}
	*reply = wait->reply;
	__clear_bit(id, &bus->taken);
	wake_up(&bus->room);
	mutex_unlock(&bus->lock);
	if (reply->device != device && !reply->status)
		return -EPROTO;
	return reply->status > 0 ? -EPROTO : pvkit_call_error(reply->status);
}

int pvkit_bus_init(struct pvkit_host *host)
{
	struct pvkit_bus *bus = &host->bus;
	int i;

	mutex_init(&bus->lock);
	init_waitqueue_head(&bus->room);
	for (i = 0; i < PVKIT_BUS_DEPTH; i++)
		init_completion(&bus->waits[i].done);
	for (i = 0; i < 2; i++) {
		bus->ours[i] = (void *)get_zeroed_page(GFP_KERNEL);
		bus->theirs[i] = (void *)get_zeroed_page(GFP_KERNEL);
		if (!bus->ours[i] || !bus->theirs[i])
			return -ENOMEM;
	}
	return 0;
}

/*
 * Sets the bus up; the host's offers are in the backlog when it returns. The
 * bus's port is the first one.
 */
int pvkit_bus_up(struct pvkit_host *host)
{
	struct pvkit_bus *bus = &host->bus;
	struct pvkit_bus_setup *setup;
	long epoch;
	int i;

	setup = kzalloc(sizeof(*setup), GFP_KERNEL);
	if (!setup)
		return -ENOMEM;
	setup->size = sizeof(*setup);
	setup->event_port = pvkit_port_number(host->ports[0]);
	for (i = 0; i < 2; i++) {
		memset(bus->ours[i], 0, PAGE_SIZE);
		setup->guest_pages[i] = virt_to_phys(bus->ours[i]);
		setup->host_pages[i] = virt_to_phys(bus->theirs[i]);
	}
	mutex_lock(&bus->lock);
	epoch = pvkit_call(host, PVKIT_CALL_BUS_SETUP, virt_to_phys(setup), 0, 0);
	kfree(setup);
	if (epoch <= 0) {
		mutex_unlock(&bus->lock);
		dev_err(&host->pdev->dev, "the host refuses to set up its bus: error %ld\n",
			-epoch);
		return pvkit_call_error(epoch) ?: -EPROTO;
	}
	bus->epoch = epoch;
	bus->latched = false;
	bus->in_flight = 0;
	bus->taken = 0;
	bus->backlog_head = 0;
	bus->backlog_tail = 0;
	pvkit_producer_init(&bus->requests, bus->ours[0] + PVKIT_BUS_REQUEST_AREA,
			    bus->theirs[0] + PVKIT_BUS_COMPLETION_AREA, PVKIT_BUS_DEPTH, 4);
	pvkit_consumer_init(&bus->replies, bus->theirs[0] + PVKIT_BUS_COMPLETION_AREA,
			    bus->ours[0] + PVKIT_BUS_REQUEST_AREA, PVKIT_BUS_DEPTH, 1);
	pvkit_producer_init(&bus->answers, bus->ours[0] + PVKIT_BUS_COMPLETION_AREA,
			    bus->theirs[0] + PVKIT_BUS_REQUEST_AREA, PVKIT_BUS_DEPTH, 1);
	pvkit_consumer_init(&bus->messages, bus->theirs[0] + PVKIT_BUS_REQUEST_AREA,
			    bus->ours[0] + PVKIT_BUS_COMPLETION_AREA, PVKIT_BUS_DEPTH, 4);
	bus->up = true;
	take(host);
	mutex_unlock(&bus->lock);
	return 0;
}

/* Nobody uses the bus from now on; whoever waits for a reply is told that none comes. */
void pvkit_bus_down(struct pvkit_host *host)
{
	struct pvkit_bus *bus = &host->bus;
	int id;

	mutex_lock(&bus->lock);
	bus->up = false;
	for_each_set_bit(id, &bus->in_flight, PVKIT_BUS_DEPTH) {
		bus->waits[id].reply.status = -(s32)PVKIT_CALL_ERROR_BACKEND;
		complete(&bus->waits[id].done);
	}
	bus->in_flight = 0;
	wake_up_all(&bus->room);
	mutex_unlock(&bus->lock);
}

/* After a reset: the host knows these pages no longer. */
void pvkit_bus_end(struct pvkit_host *host)
{
	int i;

	for (i = 0; i < 2; i++) {
		free_page((unsigned long)host->bus.ours[i]);
		free_page((unsigned long)host->bus.theirs[i]);
	}
}
