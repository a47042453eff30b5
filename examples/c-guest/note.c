/* The image's ELF note: what it needs of a host, which looks before it starts a vCPU. */
#include "pvkit.h"

#define GROUP(which) { .group = (which), .major = PVKIT_VERSION_CURRENT_MAJOR, .minor = PVKIT_VERSION_CURRENT_MINOR }
#define DEVICE(class, count) \
	{ .device_class = (class), .major = PVKIT_VERSION_CURRENT_MAJOR, .minor = PVKIT_VERSION_CURRENT_MINOR, .required = (count) }

/* start.S, and the two numbers in it. */
extern const char exception_stubs[];
_Static_assert(PVKIT_DISCOVERY_HYPERCALL_PORT == 0xa50 && PVKIT_CALL_SCHED_EXCEPTION == 0x404, "start.S");

/*
 * An ELF note: sizes, type, a name padded to eight bytes, then the description. Packed because notes are aligned to
 * four bytes: the description has the layout of struct pvkit_guest_note, with a pointer where only the linker knows the
 * number.
 */
struct __attribute__((packed, aligned(4))) note {
	pvkit_u32 name_size;
	pvkit_u32 description_size;
	pvkit_u32 type;
	char name[8];
	pvkit_u32 size;
	pvkit_u32 flags;
	pvkit_u64 memory;
	pvkit_u32 stack;
	pvkit_u16 group_count;
	pvkit_u16 device_count;
	const char *exception_entry;
	struct pvkit_note_group groups[8];
	struct pvkit_note_device devices[8];
};

#define AT(field) (__builtin_offsetof(struct note, field) - __builtin_offsetof(struct note, size))
_Static_assert(sizeof(struct note) - __builtin_offsetof(struct note, size) == sizeof(struct pvkit_guest_note), "size");
_Static_assert(AT(memory) == __builtin_offsetof(struct pvkit_guest_note, memory), "memory");
_Static_assert(AT(exception_entry) == __builtin_offsetof(struct pvkit_guest_note, exception_entry), "exceptions");
_Static_assert(AT(groups) == __builtin_offsetof(struct pvkit_guest_note, groups), "groups");
_Static_assert(AT(devices) == __builtin_offsetof(struct pvkit_guest_note, devices), "devices");

/* Aligned by name: of its own a compiler aligns large data to more than a note may have. */
__attribute__((section(".note.pvkit"), used, aligned(4))) static const struct note note = {
	.name_size = sizeof(PVKIT_DISCOVERY_NOTE_NAME) - 1,
	.description_size = sizeof(struct pvkit_guest_note),
	.type = PVKIT_DISCOVERY_NOTE_TYPE,
	.name = PVKIT_DISCOVERY_NOTE_NAME,
	.size = sizeof(struct pvkit_guest_note),
	.flags = LEVELS,
	.memory = 16 << 20,
	.stack = 256 << 10,
	.group_count = 4,
	.device_count = 3,
	.exception_entry = exception_stubs,
	.groups = { GROUP(PVKIT_GROUP_EVENT), GROUP(PVKIT_GROUP_BUS), GROUP(PVKIT_GROUP_GRANT), GROUP(PVKIT_GROUP_SCHED) },
	.devices = { DEVICE(PVKIT_CLASS_CONSOLE, 1), DEVICE(PVKIT_CLASS_BLOCK, 1), DEVICE(PVKIT_CLASS_NET, 0) },
};
