/*
 * As much of Ethernet, ARP, IPv4, ICMP and UDP as answers a question. Every length that a frame states is checked
 * against what was received before it is used; what does not fit is passed over.
 */
#include "net.h"

#include "pvkit_guest.h"

/* An untagged frame at an MTU of 1500, and what the card may add. */
#define ROOM 1536
#define ETHERNET 14
#define ARP 28
#define IP 20
#define UDP 8
#define ICMP_HEADER 8

static const unsigned char own_ip[4] = { 10, 0, 2, 15 };
static unsigned char frame[ROOM];
static unsigned char own_mac[6];

static void copy(unsigned char *to, const unsigned char *from, size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] = from[i];
}

static int same(const unsigned char *left, const unsigned char *right, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (left[i] != right[i])
			return 0;
	return 1;
}

static unsigned get16(const unsigned char *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

static void put16(unsigned char *at, unsigned value)
{
	at[0] = (unsigned char)(value >> 8);
	at[1] = (unsigned char)value;
}

/* RFC 1071, over `length` bytes and a sum that was begun. */
static unsigned checksum(const unsigned char *at, size_t length, uint32_t sum)
{
	for (size_t i = 0; i + 1 < length; i += 2)
		sum += get16(at + i);
	if (length % 2)
		sum += (uint32_t)at[length - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum & 0xffff;
}

/* Back to whom the frame came from. */
static void turn_round(void)
{
	copy(frame, frame + 6, 6);
	copy(frame + 6, own_mac, 6);
}

/* The length of the answer that stands in `frame`, 0 if there is none. */
static size_t answer_arp(size_t length)
{
	unsigned char *arp = frame + ETHERNET;

	if (length < ETHERNET + ARP || get16(arp) != 1 || get16(arp + 2) != 0x800 || arp[4] != 6 || arp[5] != 4)
		return 0;
	if (get16(arp + 6) != 1 || !same(arp + 24, own_ip, 4))
		return 0;
	put16(arp + 6, 2);
	copy(arp + 18, arp + 8, 10);
	copy(arp + 8, own_mac, 6);
	copy(arp + 14, own_ip, 4);
	turn_round();
	return ETHERNET + ARP;
}

/* The header of an answer with `length` bytes behind it. */
static size_t finish_ip(size_t length)
{
	unsigned char *ip = frame + ETHERNET;

	copy(ip + 16, ip + 12, 4);
	copy(ip + 12, own_ip, 4);
	put16(ip + 2, (unsigned)(IP + length));
	put16(ip + 6, 0x4000);
	ip[8] = 64;
	put16(ip + 10, 0);
	put16(ip + 10, checksum(ip, IP, 0));
	turn_round();
	return ETHERNET + IP + length;
}

static size_t answer_ping(size_t length)
{
	unsigned char *icmp = frame + ETHERNET + IP;

	if (length < ICMP_HEADER || icmp[0] != 8 || checksum(icmp, length, 0) != 0)
		return 0;
	icmp[0] = 0;
	put16(icmp + 2, 0);
	put16(icmp + 2, checksum(icmp, length, 0));
	return finish_ip(length);
}

static size_t answer_udp(size_t length, answerer answer, void *context, int *ended)
{
	static unsigned char data[MAX_DATA];
	unsigned char *ip = frame + ETHERNET, *udp = ip + IP;
	size_t stated;
	uint32_t pseudo;
	int count;

	if (length < UDP)
		return 0;
	stated = get16(udp + 4);
	if (stated < UDP || stated > length || stated - UDP > MAX_DATA || get16(udp + 2) != SERVICE_PORT)
		return 0;
	pseudo = get16(ip + 12) + get16(ip + 14) + get16(ip + 16) + get16(ip + 18) + 17 + (uint32_t)stated;
	if (get16(udp + 6) != 0 && checksum(udp, stated, pseudo) != 0)
		return 0;
	count = answer(udp + UDP, stated - UDP, data, context);
	*ended = count < 0;
	count = count < 0 ? -count : count;
	if (count == 0 || count > MAX_DATA)
		return 0;
	copy(udp + UDP, data, (size_t)count);
	copy(udp + 2, udp, 2);
	put16(udp, SERVICE_PORT);
	put16(udp + 4, (unsigned)(UDP + count));
	put16(udp + 6, 0);
	length = finish_ip(UDP + (size_t)count);
	pseudo = get16(ip + 12) + get16(ip + 14) + get16(ip + 16) + get16(ip + 18) + 17 + UDP + (uint32_t)count;
	stated = checksum(udp, UDP + (size_t)count, pseudo);
	put16(udp + 6, stated ? (unsigned)stated : 0xffff);
	return length;
}

static size_t answer_ip(size_t length, answerer answer, void *context, int *ended)
{
	unsigned char *ip = frame + ETHERNET;
	size_t total;

	if (length < ETHERNET + IP || ip[0] != 0x45 || checksum(ip, IP, 0) != 0)
		return 0;
	total = get16(ip + 2);
	/* No fragments: nobody who asks needs them. */
	if (total < IP || total > length - ETHERNET || (get16(ip + 6) & 0x3fff) || !same(ip + 16, own_ip, 4))
		return 0;
	switch (ip[9]) {
	case 1:
		return answer_ping(total - IP);
	case 17:
		return answer_udp(total - IP, answer, context, ended);
	default:
		return 0;
	}
}

int32_t serve(int32_t net, const unsigned char mac[6], answerer answer, void *context, uint64_t deadline)
{
	int ended = 0;

	copy(own_mac, mac, 6);
	while (!ended) {
		int32_t length = pvkit_net_receive(net, frame, sizeof(frame), deadline);
		size_t back = 0;

		if (length == PVKIT_ERROR_TOO_LONG)
			continue;
		if (length < 0)
			return length;
		if (length >= ETHERNET && get16(frame + 12) == 0x806)
			back = answer_arp((size_t)length);
		else if (length >= ETHERNET && get16(frame + 12) == 0x800)
			back = answer_ip((size_t)length, answer, context, &ended);
		if (back > 0) {
			length = pvkit_net_send(net, frame, back, deadline);
			if (length < 0)
				return length;
		}
	}
	return 0;
}
