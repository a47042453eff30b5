// SPDX-License-Identifier: GPL-2.0
/*
 * Consoles of the host: terminals named pvc0, pvc1, .., and a place for kernel
 * messages (console=pvc0). One page of memory for each slot of the queue; one
 * slot is for reading.
 */
#include <linux/console.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/tty.h>
#include <linux/tty_driver.h>
#include <linux/tty_flip.h>
#include "compat.h"
#include "pvkit_bus.h"

#define PVCON_LINES 8
#define PVCON_SLOTS 8
#define PVCON_READ 0		/* the slot that reads */

struct pvcon {
	struct tty_port port;
	struct pvkit_device *device;
	struct pvkit_queue *queue;
	spinlock_t lock;	/* the queue and the slots */
	void *pages[PVCON_SLOTS];
	u32 lengths[PVCON_SLOTS]; /* bytes that the host was given */
	unsigned long busy;	/* slots that the host has */
	u32 piece;		/* bytes of one request */
	unsigned int line;
	bool listening;		/* somebody has the terminal open */
	u32 kept;		/* bytes that were read when nobody had */
	u64 lost;		/* bytes of kernel messages that found no slot */
};

static struct pvcon *lines[PVCON_LINES];
static DEFINE_MUTEX(lines_lock);
static struct tty_driver *pvcon_tty;

/* Gives a slot to the host; with the lock held. */
static bool post(struct pvcon *con, u16 slot, u8 op, u32 bytes)
{
	u32 grant;
	u64 offset;

	if (pvkit_locate_virt(con->device, con->pages[slot], bytes, &grant, &offset) ||
	    pvkit_queue_push(con->queue, op, 0, slot, 0, 0, grant | (u64)bytes << 32, offset))
		return false;
	con->lengths[slot] = bytes;
	__set_bit(slot, &con->busy);
	return true;
}

/* Hands on what was read, and asks for more; with the lock held. */
static void hear(struct pvcon *con)
{
	tty_insert_flip_string(&con->port, con->pages[PVCON_READ], con->kept);
	con->kept = 0;
	post(con, PVCON_READ, PVKIT_CONSOLE_OP_READ, con->piece);
}

/* A slot came back; what it brought is private from here on. */
static void finish(struct pvcon *con, const struct pvkit_completion *done)
{
	__clear_bit(done->id, &con->busy);
	if (done->id != PVCON_READ)
		return;
	if (done->status == PVKIT_STATUS_OK && done->detail > con->lengths[PVCON_READ]) {
		pvkit_queue_latch(con->queue, "more was read than there was room for");
		return;
	}
	/* Nothing more comes after an error, or the end of input. */
	if (done->status != PVKIT_STATUS_OK || !done->detail)
		return;
	con->kept = done->detail;
	if (con->listening)
		hear(con);
}

/*
 * Takes what came back, with the lock held; whether anything did. Whoever takes
 * asks for the next interrupt as well: the one that was asked for may be for
 * what was just taken.
 */
static bool reclaim(struct pvcon *con)
{
	struct pvkit_completion done;
	bool some = false;

	do {
		while (pvkit_queue_pop(con->queue, &done)) {
			finish(con, &done);
			some = true;
		}
	} while (pvkit_queue_arm(con->queue, 0));
	return some;
}

static void interrupt(struct pvkit_queue *queue)
{
	struct pvcon *con = queue->context;
	bool some, ring;

	spin_lock(&con->lock);
	some = reclaim(con);
	ring = pvkit_queue_commit(queue);
	spin_unlock(&con->lock);
	if (ring)
		pvkit_queue_ring(queue);
	if (some) {
		tty_flip_buffer_push(&con->port);
		tty_port_tty_wakeup(&con->port);
	}
}

/* As much as there are slots for; publishes what else was pushed. */
static size_t put(struct pvcon *con, const u8 *text, size_t count)
{
	unsigned long flags;
	size_t done = 0;
	bool some, ring;
	u32 bytes;
	u16 slot;

	spin_lock_irqsave(&con->lock, flags);
	if (!READ_ONCE(con->queue->open)) {
		spin_unlock_irqrestore(&con->lock, flags);
		return 0;
	}
	some = reclaim(con);
	while (done < count) {
		slot = find_next_zero_bit(&con->busy, PVCON_SLOTS, PVCON_READ + 1);
		if (slot >= PVCON_SLOTS)
			break;
		bytes = min_t(size_t, count - done, con->piece);
		memcpy(con->pages[slot], text + done, bytes);
		if (!post(con, slot, PVKIT_CONSOLE_OP_WRITE, bytes))
			break;
		done += bytes;
	}
	ring = pvkit_queue_commit(con->queue);
	spin_unlock_irqrestore(&con->lock, flags);
	/* Who writes is not woken by his own writing, but a reader may wait for what was taken. */
	if (some)
		tty_flip_buffer_push(&con->port);
	if (ring)
		pvkit_queue_ring(con->queue);
	return done;
}

static int tty_install(struct tty_driver *driver, struct tty_struct *tty)
{
	struct pvcon *con;
	int ret = -ENODEV;

	mutex_lock(&lines_lock);
	con = lines[tty->index];
	if (con && tty_port_get(&con->port)) {
		tty->driver_data = con;
		ret = tty_port_install(&con->port, driver, tty);
		if (ret)
			tty_port_put(&con->port);
	}
	mutex_unlock(&lines_lock);
	return ret;
}

static void tty_cleanup(struct tty_struct *tty)
{
	struct pvcon *con = tty->driver_data;

	if (con)
		tty_port_put(&con->port);
}

static int tty_open_line(struct tty_struct *tty, struct file *file)
{
	struct pvcon *con = tty->driver_data;

	return tty_port_open(&con->port, tty, file);
}

static void tty_close_line(struct tty_struct *tty, struct file *file)
{
	struct pvcon *con = tty->driver_data;

	if (con)
		tty_port_close(&con->port, tty, file);
}

static void tty_hangup_line(struct tty_struct *tty)
{
	struct pvcon *con = tty->driver_data;

	tty_port_hangup(&con->port);
}

static PVKIT_TTY_WRITE_RESULT tty_write_line(struct tty_struct *tty, const unsigned char *text,
					     PVKIT_TTY_WRITE_COUNT count)
{
	return put(tty->driver_data, text, count);
}

static unsigned int tty_room(struct tty_struct *tty)
{
	struct pvcon *con = tty->driver_data;
	unsigned long busy = READ_ONCE(con->busy) | BIT(PVCON_READ);

	return (PVCON_SLOTS - hweight_long(busy)) * con->piece;
}

static unsigned int tty_waiting(struct tty_struct *tty)
{
	struct pvcon *con = tty->driver_data;

	return hweight_long(READ_ONCE(con->busy) & ~BIT(PVCON_READ));
}

static const struct tty_operations pvcon_tty_ops = {
	.install = tty_install,
	.cleanup = tty_cleanup,
	.open = tty_open_line,
	.close = tty_close_line,
	.hangup = tty_hangup_line,
	.write = tty_write_line,
	.write_room = tty_room,
	.chars_in_buffer = tty_waiting,
};

/* The port goes with its last user; the device is long gone by then, or goes with it. */
static void destruct(struct tty_port *port)
{
	kfree(container_of(port, struct pvcon, port));
}

/* Input waits, here and at the host, until somebody has the terminal open. */
static int activate(struct tty_port *port, struct tty_struct *tty)
{
	struct pvcon *con = container_of(port, struct pvcon, port);
	unsigned long flags;

	spin_lock_irqsave(&con->lock, flags);
	con->listening = true;
	if (con->kept)
		hear(con);
	spin_unlock_irqrestore(&con->lock, flags);
	tty_flip_buffer_push(port);
	put(con, NULL, 0);
	return 0;
}

static void shutdown(struct tty_port *port)
{
	struct pvcon *con = container_of(port, struct pvcon, port);
	unsigned long flags;

	spin_lock_irqsave(&con->lock, flags);
	con->listening = false;
	spin_unlock_irqrestore(&con->lock, flags);
}

static const struct tty_port_operations pvcon_port_ops = {
	.activate = activate,
	.shutdown = shutdown,
	.destruct = destruct,
};

/* Kernel messages: what finds no slot is lost, and counted; nobody waits for a host here. */
static void printk_write(struct console *console, const char *text, unsigned int count)
{
	struct pvcon *con = lines[console->index];
	unsigned int from = 0, to;

	while (con && from < count) {
		for (to = from; to < count && text[to] != '\n'; to++)
			;
		if (put(con, text + from, to - from) < to - from)
			con->lost += to - from;
		if (to < count)
			put(con, "\r\n", 2);
		from = to + 1;
	}
}

static struct tty_driver *printk_device(struct console *console, int *index)
{
	*index = console->index;
	return pvcon_tty;
}

static int printk_setup(struct console *console, char *options)
{
	if (console->index < 0 || console->index >= PVCON_LINES || !lines[console->index])
		return -ENODEV;
	return 0;
}

static struct console pvcon_console = {
	.name = "pvc",
	.write = printk_write,
	.device = printk_device,
	.setup = printk_setup,
	.flags = CON_PRINTBUFFER,
	.index = -1,
};

static int start(struct pvcon *con)
{
	unsigned long flags;
	bool ring;
	int ret;

	ret = pvkit_accept(con->device, 0, 1);
	if (!ret)
		ret = pvkit_queue_open(con->queue);
	if (ret) {
		pvkit_close(con->device);
		return ret;
	}
	spin_lock_irqsave(&con->lock, flags);
	con->busy = 0;
	con->kept = 0;
	post(con, PVCON_READ, PVKIT_CONSOLE_OP_READ, con->piece);
	ring = pvkit_queue_commit(con->queue);
	spin_unlock_irqrestore(&con->lock, flags);
	if (ring)
		pvkit_queue_ring(con->queue);
	pvkit_queue_poll(con->queue);
	return 0;
}

static void free_pages_of(struct pvcon *con)
{
	u16 i;

	/* Stuck: the host may still write to what it has. */
	for (i = 0; i < PVCON_SLOTS; i++)
		if (!pvkit_stuck(con->device) || !test_bit(i, &con->busy))
			pvkit_free(con->device, con->pages[i], PAGE_SIZE);
}

static void show_size(struct pvcon *con)
{
	struct pvkit_console_config config;
	struct tty_struct *tty;
	struct winsize size = {};

	memcpy(&config, con->device->offer.config, sizeof(config));
	size.ws_col = config.columns;
	size.ws_row = config.rows;
	tty = tty_port_tty_get(&con->port);
	if (!tty)
		return;
	tty_do_resize(tty, &size);
	tty_kref_put(tty);
}

static int take_line(struct pvcon *con)
{
	unsigned int i;

	mutex_lock(&lines_lock);
	for (i = 0; i < PVCON_LINES && lines[i]; i++)
		;
	if (i < PVCON_LINES) {
		con->line = i;
		lines[i] = con;
	}
	mutex_unlock(&lines_lock);
	return i < PVCON_LINES ? 0 : -ENOSPC;
}

static void give_line(struct pvcon *con)
{
	mutex_lock(&lines_lock);
	lines[con->line] = NULL;
	mutex_unlock(&lines_lock);
}

static struct pvcon *new_console(struct pvkit_device *device)
{
	struct pvcon *con = kzalloc(sizeof(*con), GFP_KERNEL);
	u16 i;

	if (!con)
		return ERR_PTR(-ENOMEM);
	tty_port_init(&con->port);
	con->port.ops = &pvcon_port_ops;
	spin_lock_init(&con->lock);
	con->device = device;
	con->piece = min_t(u32, device->offer.max_transfer, PAGE_SIZE);
	con->queue = pvkit_queue_create(device, 0, min_t(u32, PVCON_SLOTS, device->offer.max_depth),
					PVKIT_RING_COMPLETION_BYTES, interrupt, con, NULL);
	if (IS_ERR(con->queue) || !con->piece || con->queue->depth < PVCON_SLOTS)
		goto fail;
	for (i = 0; i < PVCON_SLOTS; i++) {
		con->pages[i] = pvkit_alloc(device, PAGE_SIZE, GFP_KERNEL);
		if (!con->pages[i])
			goto fail;
	}
	return con;

fail:
	pvkit_queue_destroy(con->queue);
	free_pages_of(con);
	tty_port_put(&con->port);
	return ERR_PTR(-ENOMEM);
}

static void end(struct pvcon *con)
{
	pvkit_close(con->device);
	pvkit_queue_detached(con->queue);
	pvkit_queue_destroy(con->queue);
	free_pages_of(con);
	tty_port_put(&con->port);
}

static int probe(struct pvkit_device *device)
{
	struct pvcon *con = new_console(device);
	struct device *tty;
	int ret;

	if (IS_ERR(con))
		return PTR_ERR(con);
	ret = start(con);
	if (!ret)
		ret = take_line(con);
	if (ret) {
		end(con);
		return ret;
	}
	dev_set_drvdata(&device->dev, con);
	tty = tty_port_register_device(&con->port, pvcon_tty, con->line, &device->dev);
	if (IS_ERR(tty)) {
		give_line(con);
		end(con);
		return PTR_ERR(tty);
	}
	if (!(pvcon_console.flags & CON_ENABLED))
		register_console(&pvcon_console);
	return 0;
}

static void disconnect(struct pvkit_device *device)
{
	struct pvcon *con = dev_get_drvdata(&device->dev);
	unsigned long flags;

	pvkit_queue_detached(con->queue);
	spin_lock_irqsave(&con->lock, flags);
	/* What was on its way is not repeated: it may have arrived. */
	if (!pvkit_stuck(device))
		con->busy = 0;
	spin_unlock_irqrestore(&con->lock, flags);
}

static int reconnect(struct pvkit_device *device)
{
	struct pvcon *con = dev_get_drvdata(&device->dev);
	int ret = start(con);

	if (!ret)
		tty_port_tty_wakeup(&con->port);
	return ret;
}

static int config_changed(struct pvkit_device *device)
{
	show_size(dev_get_drvdata(&device->dev));
	return 0;
}

static void remove(struct pvkit_device *device)
{
	struct pvcon *con = dev_get_drvdata(&device->dev);

	if ((pvcon_console.flags & CON_ENABLED) && pvcon_console.index == con->line)
		unregister_console(&pvcon_console);
	give_line(con);
	tty_port_tty_hangup(&con->port, false);
	tty_port_unregister_device(&con->port, pvcon_tty, con->line);
	end(con);
}

static struct pvkit_driver pvkit_console_driver = {
	.driver.name = "pvkit_console",
	.device_class = PVKIT_CLASS_CONSOLE,
	.probe = probe,
	.remove = remove,
	.disconnect = disconnect,
	.reconnect = reconnect,
	.config_changed = config_changed,
};

static int __init pvcon_init(void)
{
	int ret;

	pvcon_tty = tty_alloc_driver(PVCON_LINES, TTY_DRIVER_REAL_RAW | TTY_DRIVER_DYNAMIC_DEV);
	if (IS_ERR(pvcon_tty))
		return PTR_ERR(pvcon_tty);
	pvcon_tty->driver_name = "pvkit_console";
	pvcon_tty->name = "pvc";
	pvcon_tty->type = TTY_DRIVER_TYPE_SYSTEM;
	pvcon_tty->init_termios = tty_std_termios;
	tty_set_operations(pvcon_tty, &pvcon_tty_ops);
	ret = tty_register_driver(pvcon_tty);
	if (ret)
		goto put;
	ret = pvkit_register_driver(&pvkit_console_driver);
	if (!ret)
		return 0;
	tty_unregister_driver(pvcon_tty);
put:
	tty_driver_kref_put(pvcon_tty);
	return ret;
}
module_init(pvcon_init);

static void __exit pvcon_exit(void)
{
	pvkit_unregister_driver(&pvkit_console_driver);
	tty_unregister_driver(pvcon_tty);
	tty_driver_kref_put(pvcon_tty);
}
module_exit(pvcon_exit);

MODULE_ALIAS("pvkit:c0002");
MODULE_DESCRIPTION("Consoles of a pvkit host");
MODULE_LICENSE("GPL");
