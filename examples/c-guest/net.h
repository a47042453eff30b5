/* What the guest does with its network card. */
#ifndef C_GUEST_NET_H
#define C_GUEST_NET_H

#include <stddef.h>
#include <stdint.h>

/* Whoever asks is answered here. */
#define SERVICE_PORT 7070
/* Longest datagram either way. */
#define MAX_DATA 1024

/*
 * Answers a datagram: fills `answer` (MAX_DATA bytes of room) and says how many bytes, or 0 for no answer. A negative
 * number ends the service after the answer of as many bytes.
 */
typedef int (*answerer)(const unsigned char *data, size_t length, unsigned char *answer, void *context);

/*
 * Takes frames and answers ARP, pings and datagrams for 10.0.2.15 until the answerer ends it (0) or the card or the
 * clock does (a negative result of the drivers).
 */
int32_t serve(int32_t net, const unsigned char mac[6], answerer answer, void *context, uint64_t deadline);

#endif
