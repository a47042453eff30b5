/* SPDX-License-Identifier: GPL-2.0 */
/* The platform function and the bus behind it, for the files of pvkit.ko alone. */
#ifndef PVKIT_HOST_H
#define PVKIT_HOST_H

#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/genalloc.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include "compat.h"
#include "pvkit_bus.h"

/* Most devices that we follow; a host that offers more is told LIMIT. */
#define PVKIT_MAX_DEVICES 64

/* Host messages that wait for the work; a host's own limit is PVKIT_BUS_DEPTH in flight. */
#define PVKIT_BACKLOG 32

/* A request on the bus that waits for its reply. */
struct pvkit_wait {
	struct completion done;
	struct pvkit_reply reply;
	bool abandoned;		/* nobody waits any more; the id is still taken */
};

struct pvkit_bus {
	struct mutex lock;	/* everything below but the work */
	bool up;
	bool latched;
	u64 epoch;
	void *ours[2];
	void *theirs[2];
	struct pvkit_producer requests, answers;
	struct pvkit_consumer replies, messages;
	unsigned long taken;	/* our ids that are not free */
	unsigned long in_flight; /* those of them whose reply has not come */
	struct pvkit_wait waits[PVKIT_BUS_DEPTH];
	wait_queue_head_t room;
	struct pvkit_message backlog[PVKIT_BACKLOG];
	u32 backlog_head, backlog_tail;
	u64 refused;		/* messages of the host that were nonsense */
};

struct pvkit_host {
	struct pci_dev *pdev;
	void __iomem *bar;
	struct pvkit_platform_info *info;
	u16 call_port;
	bool dead;		/* removed, or the host broke the protocol */
	struct pvkit_bus bus;

	struct workqueue_struct *wq;
	struct work_struct messages_work;
	struct work_struct restart_work;
	struct mutex devices_lock;	/* the list; what happens to devices */
	struct list_head devices;
	u32 device_count;

	struct mutex ports_lock;	/* allocation of ports, their users */
	struct pvkit_port *ports[PVKIT_EVENT_MAX_PORTS];
	u32 vectors;

	struct gen_pool *window;
	void *window_virt;
	u64 window_base, window_bytes;
};

/* call.c */
long pvkit_call(struct pvkit_host *host, u32 number, u64 first, u64 second, u64 third);
int pvkit_call_error(long result);
int pvkit_negotiate(struct pvkit_host *host);
int pvkit_read_info(struct pvkit_host *host);
void pvkit_reset(struct pvkit_host *host);

/* port.c */
int pvkit_ports_init(struct pvkit_host *host);
void pvkit_ports_end(struct pvkit_host *host);
int pvkit_ports_again(struct pvkit_host *host);
struct pvkit_port *pvkit_port_get(struct pvkit_host *host, const char *name,
				  const struct cpumask *affinity);
void pvkit_port_put(struct pvkit_host *host, struct pvkit_port *port);
void pvkit_port_add(struct pvkit_port *port, struct pvkit_queue *queue);
void pvkit_port_remove(struct pvkit_port *port, struct pvkit_queue *queue);
void pvkit_port_poll(struct pvkit_port *port);
void pvkit_port_sync(struct pvkit_port *port);
u32 pvkit_port_number(const struct pvkit_port *port);

/* bus.c */
int pvkit_bus_init(struct pvkit_host *host);
int pvkit_bus_up(struct pvkit_host *host);
void pvkit_bus_down(struct pvkit_host *host);
void pvkit_bus_end(struct pvkit_host *host);
void pvkit_bus_take(struct pvkit_host *host);
bool pvkit_bus_next(struct pvkit_host *host, struct pvkit_message *message);
int pvkit_bus_request(struct pvkit_host *host, u32 device, u64 epoch, u8 kind, const void *body,
		      u16 size, struct pvkit_reply *reply);

/* messages.c */
void pvkit_messages(struct work_struct *work);

/* device.c */
extern PVKIT_BUS_TYPE pvkit_bus_type;
struct pvkit_device *pvkit_device_new(struct pvkit_host *host, u32 id, u64 epoch,
				      const struct pvkit_offer *offer);
struct pvkit_device *pvkit_device_find(struct pvkit_host *host, u32 id);
void pvkit_device_gone(struct pvkit_device *device);
void pvkit_device_disconnect(struct pvkit_device *device);
void pvkit_device_reconnect(struct pvkit_device *device);
void pvkit_device_configure(struct pvkit_device *device, const struct pvkit_config_changed *config);
void pvkit_devices_end(struct pvkit_host *host);
void pvkit_devices_disconnect(struct pvkit_host *host);
void pvkit_restart_work(struct work_struct *work);

/* memory.c */
int pvkit_memory_init(struct pvkit_host *host);
void pvkit_memory_end(struct pvkit_host *host);
int pvkit_share(struct pvkit_device *device);
void pvkit_list_pages(const struct pvkit_device *device, const void *area, size_t bytes, u64 *list);

/* Copies what the other side may rewrite meanwhile: each word once. */
static inline void pvkit_copy_in(void *to, const void *from, size_t bytes)
{
	u64 *words = to;
	const u64 *shared = from;
	size_t i;

	for (i = 0; i < bytes / sizeof(u64); i++)
		words[i] = READ_ONCE(shared[i]);
}

static inline void pvkit_copy_out(void *to, const void *from, size_t bytes)
{
	u64 *shared = to;
	const u64 *words = from;
	size_t i;

	for (i = 0; i < bytes / sizeof(u64); i++)
		WRITE_ONCE(shared[i], words[i]);
}

#endif
