/* SPDX-License-Identifier: GPL-2.0 */
/* What is chosen of an offer, once for the device's life. */
#ifndef PVKIT_NET_CHOICE_H
#define PVKIT_NET_CHOICE_H

#include "net.h"

u16 pvkit_net_pairs(const struct pvkit_device *device);
int pvkit_net_config(const struct pvkit_device *device, struct pvkit_net_config *config);
int pvkit_net_choose(struct pvkit_net *net);
int pvkit_net_choice_holds(const struct pvkit_net *net);
void pvkit_net_spread(struct pvkit_net *net);

#endif
