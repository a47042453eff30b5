// SPDX-License-Identifier: GPL-2.0
/* What the host's messages mean. Their form was judged in bus.c; here their content is. */
#include "pvkit_host.h"

/* An offer that no driver could deal with is none. */
static bool sound(const struct pvkit_offer *offer)
{
	return offer->max_queues && offer->max_depth >= PVKIT_RING_MIN_DEPTH &&
	       offer->max_depth <= PVKIT_RING_MAX_DEPTH && is_power_of_2(offer->max_depth) &&
	       (!offer->alignment ||
		(is_power_of_2(offer->alignment) && offer->alignment <= PAGE_SIZE)) &&
	       !(offer->required & ~offer->features);
}

static void offered(struct pvkit_host *host, const struct pvkit_message *message)
{
	struct pvkit_device *device = pvkit_device_find(host, message->device);
	struct pvkit_config_changed config;
	struct pvkit_offer offer;

	memcpy(&offer, message->body, sizeof(offer));
	if (!sound(&offer)) {
		dev_warn_ratelimited(&host->pdev->dev, "the offer of device %u makes no sense\n",
				     message->device);
		return;
	}
	if (!device) {
		pvkit_device_new(host, message->device, message->epoch, &offer);
		return;
	}
	if (offer.device_class != device->offer.device_class) {
		dev_warn_ratelimited(&device->dev,
				     "the host offers it as another class of device\n");
		return;
	}
	if (message->epoch > device->epoch) {
		/* The message that it had gone may have been dropped. */
		pvkit_device_disconnect(device);
		device->epoch = message->epoch;
		device->offer = offer;
		pvkit_device_reconnect(device);
	} else if (message->epoch == device->epoch &&
		   memcmp(device->offer.config, offer.config, sizeof(offer.config))) {
		memcpy(config.config, offer.config, sizeof(config.config));
		pvkit_device_configure(device, &config);
	}
}

static void state_changed(struct pvkit_device *device, const struct pvkit_message *message)
{
	struct pvkit_state_changed state;

	memcpy(&state, message->body, sizeof(state));
	if (message->epoch <= device->epoch)
		return;
	device->epoch = message->epoch;
	pvkit_device_disconnect(device);
	if (state.state == PVKIT_DEVICE_STATE_DISCONNECTED)
		dev_info(&device->dev, "its backend is gone; requests wait until it is back\n");
}

static void deal_with(struct pvkit_host *host, const struct pvkit_message *message)
{
	struct pvkit_device *device = pvkit_device_find(host, message->device);
	struct pvkit_config_changed config;
	struct pvkit_reply reply;

	if (message->kind == PVKIT_KIND_OFFER) {
		offered(host, message);
		return;
	}
	if (message->kind == PVKIT_KIND_OVERFLOW) {
		pvkit_bus_request(host, 0, host->bus.epoch, PVKIT_KIND_RESCAN, NULL, 0, &reply);
		return;
	}
	/* Of an older epoch: it was answered, and means nothing now. */
	if (!device || message->epoch < device->epoch)
		return;
	switch (message->kind) {
	case PVKIT_KIND_RESCIND:
		device->epoch = message->epoch;
		WRITE_ONCE(device->rescinded, true);
		pvkit_device_gone(device);
		break;
	case PVKIT_KIND_CONFIG_CHANGED:
		memcpy(&config, message->body, sizeof(config));
		pvkit_device_configure(device, &config);
		break;
	case PVKIT_KIND_STATE_CHANGED:
		state_changed(device, message);
		break;
	}
}

void pvkit_messages(struct work_struct *work)
{
	struct pvkit_host *host = container_of(work, struct pvkit_host, messages_work);
	struct pvkit_message message;

	mutex_lock(&host->devices_lock);
	while (!READ_ONCE(host->dead) && pvkit_bus_next(host, &message))
		deal_with(host, &message);
	mutex_unlock(&host->devices_lock);
}
