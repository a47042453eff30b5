/*
 * A guest kernel in C, as small as it can be and do something: meets the host, opens console and disk, reads the first
 * sector, writes a pattern after it, makes it durable, and reads it back. If it has a network card it then answers
 * datagrams: a sector's number with what stands there, until somebody says "end". It powers off with status 0 only if all
 * of that went well; otherwise its last words say what did not.
 */
#include "net.h"
#include "pvkit_guest.h"

#define SECOND 1000000000ULL
#define SECTOR 512
/* As many sectors as need two requests of the drivers (64 KiB each), so that pieces are tried too. */
#define PATTERN (160 * SECTOR)

/* Everything that the host sees lies here. */
static unsigned char pool[1 << 20] __attribute__((aligned(4096)));
static unsigned char written[PATTERN], read_back[PATTERN], first[SECTOR];

static size_t length_of(const char *text)
{
	size_t length = 0;

	while (text[length] != 0)
		length++;
	return length;
}

static uint64_t soon(void)
{
	return pvkit_now() + 20 * SECOND;
}

/* Gives a result back, unless it is an error: then the guest is over. */
static int32_t must(const char *what, int32_t result)
{
	static char words[160];
	const char *parts[] = { what, ": ", pvkit_strerror(result) };
	size_t length = 0;

	if (result >= 0)
		return result;
	for (size_t part = 0; part < 3; part++)
		for (size_t i = 0; parts[part][i] != 0 && length < sizeof(words); i++)
			words[length++] = parts[part][i];
	pvkit_crash(words, length);
}

static void say(int32_t console, const char *text)
{
	must("write to the console", pvkit_console_write(console, text, length_of(text), soon()));
}

static int32_t try_disk(int32_t console)
{
	struct pvkit_block_geometry geometry;
	int32_t disk = must("open the disk", pvkit_block_open(0, soon()));

	must("look at the disk", pvkit_block_geometry(disk, &geometry));
	if (geometry.logical_block > SECTOR || geometry.capacity < SECTOR + PATTERN)
		pvkit_crash("the disk is too small", 21);
	must("read", pvkit_block_read(disk, 0, first, SECTOR, soon()));
	say(console, "c-guest: the disk begins with ");
	must("write to the console", pvkit_console_write(console, first, 16, soon()));
	say(console, "\n");

	for (size_t i = 0; i < PATTERN; i++)
		written[i] = (unsigned char)(i * 7 + i / SECTOR);
	must("write", pvkit_block_write(disk, SECTOR, written, PATTERN, soon()));
	must("flush", pvkit_block_flush(disk, soon()));
	must("read back", pvkit_block_read(disk, SECTOR, read_back, PATTERN, soon()));
	for (size_t i = 0; i < PATTERN; i++)
		if (read_back[i] != written[i])
			pvkit_crash("what was written is not what is read", 36);

	/* Mistakes are refused by name, and leave everything as it was. */
	if (pvkit_block_read(disk, 1, first, SECTOR, soon()) != PVKIT_ERROR_MISALIGNED ||
	    pvkit_block_read(disk, geometry.capacity, first, SECTOR, soon()) != PVKIT_ERROR_OUT_OF_RANGE ||
	    pvkit_block_open(0, soon()) != PVKIT_ERROR_BUSY || pvkit_block_open(9, soon()) != PVKIT_ERROR_NOT_FOUND)
		pvkit_crash("a mistake was not refused by its name", 37);
	return disk;
}

static void end_disk(int32_t disk)
{
	must("close the disk", pvkit_block_close(disk, soon()));
	if (pvkit_block_flush(disk, soon()) != PVKIT_ERROR_NOT_FOUND)
		pvkit_crash("a closed disk took a request", 28);
}

/* The sector whose decimal number is asked for; whatever the disk says against it, in words. */
static int answer_sector(const unsigned char *data, size_t length, unsigned char *answer, void *context)
{
	uint64_t sector = 0;
	const char *words;
	int32_t result;
	size_t count;

	if (length == 3 && data[0] == 'e' && data[1] == 'n' && data[2] == 'd') {
		answer[0] = '!';
		return -1;
	}
	for (size_t i = 0; i < length; i++) {
		if (data[i] < '0' || data[i] > '9' || i == 12)
			return 0;
		sector = sector * 10 + (data[i] - '0');
	}
	result = pvkit_block_read(*(int32_t *)context, sector * SECTOR, answer, SECTOR, soon());
	if (result >= 0)
		return SECTOR;
	words = pvkit_strerror(result);
	count = length_of(words);
	for (size_t i = 0; i < count; i++)
		answer[i] = (unsigned char)words[i];
	return (int)count;
}

static void try_net(int32_t console, int32_t disk)
{
	struct pvkit_net_facts facts;
	int32_t net = pvkit_net_open(0, soon());

	if (net == PVKIT_ERROR_NOT_FOUND)
		return;
	must("open the network card", net);
	must("look at the network card", pvkit_net_facts(net, &facts));
	if (pvkit_net_receive(net, written, 2048, 0) != PVKIT_ERROR_TIMED_OUT ||
	    pvkit_net_send(net, written, 9019, soon()) != PVKIT_ERROR_TOO_LONG)
		pvkit_crash("a mistake was not refused by its name", 37);
	say(console, "c-guest: answers datagrams\n");
	must("serve", serve(net, facts.mac, answer_sector, &disk, soon() + 100 * SECOND));
	must("close the network card", pvkit_net_close(net, soon()));
}

/* Where vCPU 0 begins, on the boot stack that the note asks for. */
__attribute__((noreturn)) void pvkit_start(const void *boot_info);
__attribute__((noreturn)) void pvkit_start(const void *boot_info)
{
	unsigned char input[8];
	int32_t console, disk;

	/* An image without a platform can only spin; the host's watchdog or its operator ends it. */
	while (pvkit_init(boot_info, pool, sizeof(pool), 0) < 0)
		;
	must("connect", pvkit_connect());
	console = must("open the console", pvkit_console_open(0, soon()));
	disk = try_disk(console);
	try_net(console, disk);
	end_disk(disk);
	if (pvkit_console_read(console, input, sizeof(input), soon()) == 0)
		say(console, "c-guest: end of input\n");
	say(console, "c-guest: ok\n");
	pvkit_shutdown(0);
}
