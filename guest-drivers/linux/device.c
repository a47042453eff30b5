// SPDX-License-Identifier: GPL-2.0
/* Devices on the bus: the kernel's model of them, and their life from epoch to epoch. */
#include <linux/jiffies.h>
#include <linux/slab.h>
#include "pvkit_host.h"
#include "compat.h"

/* A device that is started anew so often within a minute is left alone. */
#define MAX_RESTARTS 8

static const struct pvkit_driver *to_driver(const struct device_driver *driver)
{
	return container_of_const(driver, struct pvkit_driver, driver);
}

static const struct pvkit_driver *bound(const struct pvkit_device *device)
{
	return device->dev.driver ? to_driver(device->dev.driver) : NULL;
}

static int match(struct device *dev, PVKIT_MATCH_DRIVER *driver)
{
	return to_pvkit_device(dev)->offer.device_class == to_driver(driver)->device_class;
}

static int uevent(PVKIT_UEVENT_DEVICE *dev, struct kobj_uevent_env *env)
{
	const struct pvkit_device *device = container_of_const(dev, struct pvkit_device, dev);

	return add_uevent_var(env, "MODALIAS=pvkit:c%04X", device->offer.device_class);
}

static int probe(struct device *dev)
{
	struct pvkit_device *device = to_pvkit_device(dev);

	if (device->stuck || pvkit_gone(device))
		return -ENXIO;
	device->lost = false;
	return bound(device)->probe(device);
}

static void remove(struct device *dev)
{
	struct pvkit_device *device = to_pvkit_device(dev);

	bound(device)->remove(device);
	device->choice_made = false;
	device->lost = false;
}

static ssize_t modalias_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "pvkit:c%04X\n", to_pvkit_device(dev)->offer.device_class);
}
static DEVICE_ATTR_RO(modalias);

static ssize_t class_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	static const char * const names[] = {
		[PVKIT_CLASS_BLOCK] = "block", [PVKIT_CLASS_CONSOLE] = "console",
		[PVKIT_CLASS_NET] = "net", [PVKIT_CLASS_SERVICES] = "services",
		[PVKIT_CLASS_ENTROPY] = "entropy",
	};
	u16 class = to_pvkit_device(dev)->offer.device_class;

	if (class < ARRAY_SIZE(names) && names[class])
		return sysfs_emit(buf, "%s\n", names[class]);
	return sysfs_emit(buf, "%u\n", class);
}
static DEVICE_ATTR_RO(class);

static ssize_t instance_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", to_pvkit_device(dev)->offer.instance);
}
static DEVICE_ATTR_RO(instance);

static ssize_t epoch_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", to_pvkit_device(dev)->epoch);
}
static DEVICE_ATTR_RO(epoch);

static ssize_t features_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%#llx\n", to_pvkit_device(dev)->features);
}
static DEVICE_ATTR_RO(features);

static ssize_t state_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	const struct pvkit_device *device = to_pvkit_device(dev);
	const char *state = "offered";

	if (pvkit_gone(device))
		state = "gone";
	else if (device->stuck)
		state = "stuck";
	else if (device->lost)
		state = "disconnected";
	else if (device->connected)
		state = "connected";
	return sysfs_emit(buf, "%s\n", state);
}
static DEVICE_ATTR_RO(state);

/* A line for each queue, for people and tests. Requests are counted modulo 2^32. */
static ssize_t queues_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct pvkit_device *device = to_pvkit_device(dev);
	struct pvkit_queue *queue;
	ssize_t length = 0;
	int ret;

	ret = device_lock_interruptible(dev);
	if (ret)
		return ret;
	list_for_each_entry(queue, &device->queue_list, on_device)
		length += sysfs_emit_at(buf, length,
					"queue=%u depth=%u requests=%u doorbells=%llu interrupts=%llu\n",
					queue->index, queue->depth, queue->requests.head,
					queue->doorbells, queue->interrupts);
	device_unlock(dev);
	return length;
}
static DEVICE_ATTR_RO(queues);

static struct attribute *pvkit_attrs[] = {
	&dev_attr_modalias.attr,
	&dev_attr_class.attr,
	&dev_attr_instance.attr,
	&dev_attr_epoch.attr,
	&dev_attr_features.attr,
	&dev_attr_state.attr,
	&dev_attr_queues.attr,
	NULL
};
ATTRIBUTE_GROUPS(pvkit);

PVKIT_BUS_TYPE pvkit_bus_type = {
	.name = "pvkit",
	.match = match,
	.uevent = uevent,
	.probe = probe,
	.remove = remove,
	.dev_groups = pvkit_groups,
};

int __pvkit_register_driver(struct pvkit_driver *driver, struct module *owner)
{
	driver->driver.bus = &pvkit_bus_type;
	driver->driver.owner = owner;
	return driver_register(&driver->driver);
}
EXPORT_SYMBOL_GPL(__pvkit_register_driver);

void pvkit_unregister_driver(struct pvkit_driver *driver)
{
	driver_unregister(&driver->driver);
}
EXPORT_SYMBOL_GPL(pvkit_unregister_driver);

static void release(struct device *dev)
{
	kfree(to_pvkit_device(dev));
}

struct pvkit_device *pvkit_device_find(struct pvkit_host *host, u32 id)
{
	struct pvkit_device *device;

	list_for_each_entry(device, &host->devices, node)
		if (device->id == id)
			return device;
	return NULL;
}

/* A device that the host offers for the first time. Its driver probes it, if there is one. */
struct pvkit_device *pvkit_device_new(struct pvkit_host *host, u32 id, u64 epoch,
				      const struct pvkit_offer *offer)
{
	struct pvkit_device *device;
	int ret;

	if (host->device_count >= PVKIT_MAX_DEVICES) {
		dev_warn_ratelimited(&host->pdev->dev, "device %u is one too many\n", id);
		return ERR_PTR(-ENOSPC);
	}
	device = kzalloc(sizeof(*device), GFP_KERNEL);
	if (!device)
		return ERR_PTR(-ENOMEM);
	device->host = host;
	device->id = id;
	device->epoch = epoch;
	device->offer = *offer;
	INIT_LIST_HEAD(&device->queue_list);
	device->dev.bus = &pvkit_bus_type;
	device->dev.parent = &host->pdev->dev;
	device->dev.release = release;
	dev_set_name(&device->dev, "pvkit-%u", id);
	list_add_tail(&device->node, &host->devices);
	host->device_count++;
	ret = device_register(&device->dev);
	if (ret) {
		list_del(&device->node);
		host->device_count--;
		put_device(&device->dev);
		return ERR_PTR(ret);
	}
	return device;
}

/* Away for good; its driver is told by ->remove(). */
void pvkit_device_gone(struct pvkit_device *device)
{
	struct pvkit_host *host = device->host;

	pvkit_device_disconnect(device);
	list_del(&device->node);
	host->device_count--;
	device_unregister(&device->dev);
}

/* Its epoch has ended; every queue of it is detached. */
void pvkit_device_disconnect(struct pvkit_device *device)
{
	const struct pvkit_driver *driver;

	device_lock(&device->dev);
	device->connected = false;
	driver = bound(device);
	if (driver && !device->lost) {
		device->lost = true;
		driver->disconnect(device);
	}
	device_unlock(&device->dev);
}

/* It is offered again. */
void pvkit_device_reconnect(struct pvkit_device *device)
{
	const struct pvkit_driver *driver;
	int ret;

	device_lock(&device->dev);
	driver = bound(device);
	if (driver && device->lost && !pvkit_gone(device) && !device->stuck) {
		ret = driver->reconnect(device);
		device->lost = ret;
		if (ret)
			dev_err(&device->dev, "could not be connected again: error %d\n", ret);
	}
	device_unlock(&device->dev);
	/* A driver that failed at the first offer may do better at this one. */
	if (!driver && device_attach(&device->dev) < 0)
		dev_dbg(&device->dev, "no driver takes it\n");
}

void pvkit_device_configure(struct pvkit_device *device, const struct pvkit_config_changed *config)
{
	const struct pvkit_driver *driver;
	struct pvkit_config_changed old;

	device_lock(&device->dev);
	memcpy(old.config, device->offer.config, sizeof(old.config));
	memcpy(device->offer.config, config->config, sizeof(device->offer.config));
	driver = bound(device);
	/* What the driver refuses would keep it from connecting again. */
	if (driver && driver->config_changed && !device->lost && driver->config_changed(device))
		memcpy(device->offer.config, old.config, sizeof(old.config));
	device_unlock(&device->dev);
}

void pvkit_devices_disconnect(struct pvkit_host *host)
{
	struct pvkit_device *device;

	mutex_lock(&host->devices_lock);
	list_for_each_entry(device, &host->devices, node)
		pvkit_device_disconnect(device);
	mutex_unlock(&host->devices_lock);
}

/* Drivers give their devices back. */
void pvkit_devices_end(struct pvkit_host *host)
{
	struct pvkit_device *device, *next;

	mutex_lock(&host->devices_lock);
	list_for_each_entry_safe(device, next, &host->devices, node) {
		list_del(&device->node);
		host->device_count--;
		device_unregister(&device->dev);
	}
	mutex_unlock(&host->devices_lock);
}

int pvkit_accept(struct pvkit_device *device, u64 features, u16 queues)
{
	struct pvkit_accept body = {
		.version = {
			.major = PVKIT_VERSION_CURRENT_MAJOR,
			.minor = PVKIT_VERSION_CURRENT_MINOR,
		},
		.queues = queues,
		.features = features,
	};
	const struct pvkit_offer *offer = &device->offer;
	struct pvkit_reply reply;
	int ret;

	if (offer->newest.major != PVKIT_VERSION_CURRENT_MAJOR ||
	    offer->newest.minor < PVKIT_VERSION_CURRENT_MINOR ||
	    offer->minor_oldest > PVKIT_VERSION_CURRENT_MINOR) {
		dev_err(&device->dev, "the host offers version %u.%u, this driver knows %u.%u\n",
			offer->newest.major, offer->newest.minor,
			PVKIT_VERSION_CURRENT_MAJOR, PVKIT_VERSION_CURRENT_MINOR);
		return -EOPNOTSUPP;
	}
	if (offer->required & ~features) {
		dev_err(&device->dev, "the host requires features %#llx, which this driver lacks\n",
			offer->required & ~features);
		return -EOPNOTSUPP;
	}
	if (features & ~offer->features || queues > offer->max_queues ||
	    (device->choice_made && (features != device->features || queues != device->queues))) {
		dev_err(&device->dev,
			"the host no longer offers what was chosen (features %#llx of %#llx, %u of %u queues)\n",
			features, offer->features, queues, offer->max_queues);
		return -EINVAL;
	}
	ret = pvkit_bus_request(device->host, device->id, device->epoch, PVKIT_KIND_ACCEPT,
				&body, sizeof(body), &reply);
	if (ret) {
		dev_err(&device->dev, "the host does not let us take it: error %d\n", ret);
		return ret;
	}
	if (reply.epoch <= device->epoch)
		return -EPROTO;
	device->epoch = reply.epoch;
	device->features = features;
	device->queues = queues;
	device->choice_made = true;
	device->connected = true;
	return pvkit_share(device);
}
EXPORT_SYMBOL_GPL(pvkit_accept);

int pvkit_close(struct pvkit_device *device)
{
	struct pvkit_reply reply = {};
	int ret;

	if (device->stuck)
		return -EIO;
	if (!device->connected)
		return 0;
	ret = pvkit_bus_request(device->host, device->id, device->epoch, PVKIT_KIND_CLOSE,
				NULL, 0, &reply);
	/* A newer epoch says that every queue of ours is detached, whatever else the reply says. */
	if (reply.epoch > device->epoch) {
		device->epoch = reply.epoch;
		ret = 0;
	}
	device->connected = false;
	device->extent_count = 0;
	if (ret) {
		device->stuck = true;
		dev_err(&device->dev,
			"the host does not let go of its memory (error %d), which is lost\n", ret);
	}
	return ret;
}
EXPORT_SYMBOL_GPL(pvkit_close);

int pvkit_control(struct pvkit_device *device, u16 operation, const void *data, u16 size)
{
	struct pvkit_control body = { .operation = operation, .size = size };
	struct pvkit_reply reply;

	if (size > sizeof(body.data))
		return -EINVAL;
	memcpy(body.data, data, size);
	return pvkit_bus_request(device->host, device->id, device->epoch, PVKIT_KIND_CONTROL,
				 &body, sizeof(body), &reply);
}
EXPORT_SYMBOL_GPL(pvkit_control);

void pvkit_restart(struct pvkit_device *device)
{
	set_bit(0, &device->restart);
	queue_work(device->host->wq, &device->host->restart_work);
}
EXPORT_SYMBOL_GPL(pvkit_restart);

static bool too_often(struct pvkit_device *device)
{
	if (!device->restarts || time_after(jiffies, device->restarts_since + 60 * HZ)) {
		device->restarts_since = jiffies;
		device->restarts = 0;
	}
	return ++device->restarts > MAX_RESTARTS;
}

static void restart(struct pvkit_device *device)
{
	device_lock(&device->dev);
	if (!device->dev.driver || !device->connected) {
		device_unlock(&device->dev);
		return;
	}
	if (too_often(device)) {
		dev_err(&device->dev,
			"was started anew %u times within a minute; it is left alone\n",
			MAX_RESTARTS);
		WRITE_ONCE(device->failed, true);
	}
	pvkit_close(device);
	device_unlock(&device->dev);
	pvkit_device_disconnect(device);
	pvkit_device_reconnect(device);
}

void pvkit_restart_work(struct work_struct *work)
{
	struct pvkit_host *host = container_of(work, struct pvkit_host, restart_work);
	struct pvkit_device *device;

	mutex_lock(&host->devices_lock);
	list_for_each_entry(device, &host->devices, node)
		if (test_and_clear_bit(0, &device->restart))
			restart(device);
	mutex_unlock(&host->devices_lock);
}
