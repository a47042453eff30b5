// SPDX-License-Identifier: GPL-2.0
/*
 * Event ports. Port n of the host is entry n of the MSI-X table, and so an
 * interrupt of its own. When there are more queues than vectors they share.
 */
#include <linux/interrupt.h>
#include <linux/slab.h>
#include "pvkit_host.h"

struct pvkit_port {
	struct pvkit_host *host;
	u32 number;
	int irq;
	u32 users;
	spinlock_t lock;	/* the list; held while a queue is told */
	struct list_head queues;
	const struct cpumask *affinity;
	char name[40];
};

u32 pvkit_port_number(const struct pvkit_port *port)
{
	return port->number;
}

/* With the lock held. A queue that is not open is not looked at. */
static void tell(struct pvkit_port *port)
{
	struct pvkit_queue *queue;

	list_for_each_entry(queue, &port->queues, on_port) {
		/* Pairs with pvkit_queue_open(): its rings are made ready. */
		if (!smp_load_acquire(&queue->open))
			continue;
		queue->interrupts++;
		queue->interrupt(queue);
	}
}

static irqreturn_t told(int irq, void *context)
{
	struct pvkit_port *port = context;

	spin_lock(&port->lock);
	tell(port);
	spin_unlock(&port->lock);
	return IRQ_HANDLED;
}

/* As if the interrupt had come. */
void pvkit_port_poll(struct pvkit_port *port)
{
	unsigned long flags;

	spin_lock_irqsave(&port->lock, flags);
	tell(port);
	spin_unlock_irqrestore(&port->lock, flags);
}

/* When it returns nobody is in the function of a queue that was not open before. */
void pvkit_port_sync(struct pvkit_port *port)
{
	spin_lock_irq(&port->lock);
	spin_unlock_irq(&port->lock);
}

/* Messages are few, and answering them may exit: in a thread. */
static irqreturn_t bus_told(int irq, void *context)
{
	struct pvkit_port *port = context;

	pvkit_bus_take(port->host);
	return IRQ_HANDLED;
}

static struct pvkit_port *new_port(struct pvkit_host *host, const char *name, bool bus,
				   const struct cpumask *affinity)
{
	struct pvkit_port *port;
	long number;
	int ret;

	port = kzalloc(sizeof(*port), GFP_KERNEL);
	if (!port)
		return ERR_PTR(-ENOMEM);
	number = pvkit_call(host, PVKIT_CALL_EVENT_ALLOC, 0, 0, 0);
	ret = pvkit_call_error(number);
	if (ret)
		goto free;
	if (number >= host->vectors || host->ports[number]) {
		dev_err(&host->pdev->dev, "the host's event port %ld has no free vector\n", number);
		ret = -EPROTO;
		goto free;
	}
	port->host = host;
	port->number = number;
	port->users = 1;
	port->affinity = affinity;
	spin_lock_init(&port->lock);
	INIT_LIST_HEAD(&port->queues);
	snprintf(port->name, sizeof(port->name), "pvkit-%s", name);
	port->irq = pci_irq_vector(host->pdev, number);
	if (bus)
		ret = request_threaded_irq(port->irq, NULL, bus_told, IRQF_ONESHOT, port->name,
					   port);
	else
		ret = request_irq(port->irq, told, 0, port->name, port);
	if (ret)
		goto close;
	if (affinity)
		irq_set_affinity_and_hint(port->irq, affinity);
	host->ports[number] = port;
	return port;

close:
	pvkit_call(host, PVKIT_CALL_EVENT_CLOSE, number, 0, 0);
free:
	kfree(port);
	return ERR_PTR(ret);
}

static void free_port(struct pvkit_host *host, struct pvkit_port *port)
{
	if (port->affinity)
		irq_update_affinity_hint(port->irq, NULL);
	free_irq(port->irq, port);
	host->ports[port->number] = NULL;
	/* BUSY while a queue that could not be detached may still signal it: it stays taken. */
	pvkit_call(host, PVKIT_CALL_EVENT_CLOSE, port->number, 0, 0);
	kfree(port);
}

/* Shared: the port that serves the fewest, but not the bus's. */
static struct pvkit_port *least_used(struct pvkit_host *host)
{
	struct pvkit_port *best = NULL;
	u32 i;

	for (i = 1; i < host->vectors; i++)
		if (host->ports[i] && (!best || host->ports[i]->users < best->users))
			best = host->ports[i];
	return best;
}

/* The first one that is asked for is the bus's. @affinity must stay as long as the port. */
struct pvkit_port *pvkit_port_get(struct pvkit_host *host, const char *name,
				  const struct cpumask *affinity)
{
	struct pvkit_port *port;
	u32 used = 0, i;

	mutex_lock(&host->ports_lock);
	for (i = 0; i < host->vectors; i++)
		used += !!host->ports[i];
	if (used < host->vectors) {
		port = new_port(host, name, used == 0, affinity);
	} else {
		port = least_used(host);
		if (port)
			port->users++;
		else
			port = ERR_PTR(-ENOSPC);
	}
	mutex_unlock(&host->ports_lock);
	return port;
}

void pvkit_port_put(struct pvkit_host *host, struct pvkit_port *port)
{
	mutex_lock(&host->ports_lock);
	if (!--port->users)
		free_port(host, port);
	mutex_unlock(&host->ports_lock);
}

void pvkit_port_add(struct pvkit_port *port, struct pvkit_queue *queue)
{
	spin_lock_irq(&port->lock);
	list_add_tail(&queue->on_port, &port->queues);
	spin_unlock_irq(&port->lock);
}

/* The queue's function is not running when this returns, and is not called again. */
void pvkit_port_remove(struct pvkit_port *port, struct pvkit_queue *queue)
{
	spin_lock_irq(&port->lock);
	list_del_init(&queue->on_port);
	spin_unlock_irq(&port->lock);
}

/* After a reset: the same ports again, in the same order, so that they have the same numbers. */
int pvkit_ports_again(struct pvkit_host *host)
{
	long number;
	u32 i;

	for (i = 0; i < host->vectors; i++) {
		if (!host->ports[i])
			continue;
		/* Those in between were freed: take them, so that the next has its old number. */
		do {
			number = pvkit_call(host, PVKIT_CALL_EVENT_ALLOC, 0, 0, 0);
			if (number < 0)
				return pvkit_call_error(number);
		} while (number < i);
		if (number != i)
			return -EPROTO;
	}
	for (i = 0; i < host->vectors; i++)
		if (!host->ports[i])
			pvkit_call(host, PVKIT_CALL_EVENT_CLOSE, i, 0, 0);
	return 0;
}

/*
 * How many devices there are is not known yet: vectors for the bus, sixteen
 * devices' single queues and six more queues on each CPU; beyond that they
 * share.
 */
int pvkit_ports_init(struct pvkit_host *host)
{
	int most = pci_msix_vec_count(host->pdev);
	int ret;

	if (most < 0)
		return most;
	most = min3(most, (int)PVKIT_EVENT_MAX_PORTS, 17 + 6 * (int)num_online_cpus());
	ret = pci_alloc_irq_vectors(host->pdev, 2, most, PCI_IRQ_MSIX);
	if (ret < 0) {
		dev_err(&host->pdev->dev, "no MSI-X vectors: error %d\n", ret);
		return ret;
	}
	host->vectors = ret;
	return 0;
}

void pvkit_ports_end(struct pvkit_host *host)
{
	pci_free_irq_vectors(host->pdev);
}
