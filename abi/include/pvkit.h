/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * The pvkit ABI, version 0.1: the facts on which guest and host agree. Little endian, everywhere. abi/README.md
 * tells who writes which field, and when.
 *
 * Generated from the Rust crate pvkit-abi by `PVKIT_BLESS=1 cargo test -p pvkit-abi`. Do not edit.
 */
#ifndef PVKIT_H
#define PVKIT_H

#ifdef __KERNEL__
#include <linux/types.h>
typedef __u8 pvkit_u8;
typedef __u16 pvkit_u16;
typedef __u32 pvkit_u32;
typedef __u64 pvkit_u64;
typedef __s32 pvkit_i32;
typedef __s64 pvkit_i64;
#else
#include <stdint.h>
typedef uint8_t pvkit_u8;
typedef uint16_t pvkit_u16;
typedef uint32_t pvkit_u32;
typedef uint64_t pvkit_u64;
typedef int32_t pvkit_i32;
typedef int64_t pvkit_i64;
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the pvkit ABI is little endian; a big-endian port needs conversions at every field"
#endif

/* Bytes in a page of shared memory. The ABI's unit of ownership: a page has one writer. */
#define PVKIT_PAGE_SIZE 4096U

/*
 * ---- version ----
 *
 * Versions and feature negotiation. The host offers ranges, the guest answers with a choice, the host seals it.
 */

/* Most groups in one negotiation. */
#define PVKIT_VERSION_MAX_GROUPS 16U

/* The version of every group and protocol in this release of the crate. 0.x: not frozen yet. */
#define PVKIT_VERSION_CURRENT_MAJOR 0U

/* The version of every group and protocol in this release of the crate. 0.x: not frozen yet. */
#define PVKIT_VERSION_CURRENT_MINOR 1U

/*
 * Group (u16)
 * A group of hypercalls, with a version and a feature mask of its own.
 */
/* Event channels. */
#define PVKIT_GROUP_EVENT 0x1U
/* Device bus. */
#define PVKIT_GROUP_BUS 0x2U
/* Grants; their messages travel on the bus. */
#define PVKIT_GROUP_GRANT 0x3U
/* Yield, block, shut down, crash. */
#define PVKIT_GROUP_SCHED 0x4U
/* Early console output, before any device is open. */
#define PVKIT_GROUP_CONSOLE 0x5U
/* Wall clock. */
#define PVKIT_GROUP_TIME 0x6U
/* Virtual CPU bring-up. */
#define PVKIT_GROUP_VCPU 0x8U

/*
 * RefusalReason (u16)
 * Why a group was refused.
 */
/* Nothing was refused. */
#define PVKIT_REFUSAL_REASON_NONE 0x0U
/* The host has no such group. */
#define PVKIT_REFUSAL_REASON_UNKNOWN_GROUP 0x1U
/* The chosen version is outside the host's range. */
#define PVKIT_REFUSAL_REASON_VERSION 0x2U
/* A chosen feature is not offered. */
#define PVKIT_REFUSAL_REASON_UNKNOWN_FEATURE 0x3U
/* A required feature was not chosen. */
#define PVKIT_REFUSAL_REASON_REQUIRED_FEATURE 0x4U
/* The group is named twice. */
#define PVKIT_REFUSAL_REASON_DUPLICATE 0x5U

/* `major.minor`. A new minor only adds; a new major may change anything. */
struct pvkit_version {
	/* Incompatible generations. */
	pvkit_u16 major;
	/* Compatible additions within a generation. */
	pvkit_u16 minor;
};

/*
 * What the host can do in one group. Written by the host in `discovery::BootInfo`.
 *
 * Several entries with one `group` and different `major` are allowed.
 */
struct pvkit_group_offer {
	/* Which group. */
	pvkit_u16 group;
	/* The generation that this entry speaks of. */
	pvkit_u16 major;
	/* Oldest minor version still served. */
	pvkit_u16 minor_oldest;
	/* Newest minor version served. */
	pvkit_u16 minor_newest;
	/* Feature bits the guest may choose. */
	pvkit_u64 features;
	/* Feature bits the guest must choose to use the group at all; a subset of `features`. */
	pvkit_u64 required;
};

/* What the guest chose for one group. Part of `Negotiate`. */
struct pvkit_group_choice {
	/* Which group. */
	pvkit_u16 group;
	/* Chosen generation. */
	pvkit_u16 major;
	/* Chosen minor version, within the host's range. */
	pvkit_u16 minor;
	/* Zero. */
	pvkit_u16 reserved;
	/* Chosen features; bits that the host did not offer are refused by name. */
	pvkit_u64 features;
};

/* Input of hypercall `NEGOTIATE`. Written by the guest. */
struct pvkit_negotiate {
	/* Size of this struct in bytes as the caller knows it. A longer struct's tail must be zero. */
	pvkit_u32 size;
	/* How many of `groups` are meant, at most `MAX_GROUPS`. */
	pvkit_u32 count;
	/* The choices; a group not named is not used and its calls are refused. */
	struct pvkit_group_choice groups[16];
};

/* Output of hypercall `NEGOTIATE`. Written by the host. */
struct pvkit_negotiate_reply {
	/* Full size in bytes of the host's struct; the guest got the smaller of this and what it asked for. */
	pvkit_u32 size;
	/* Group that was refused, 0 if none. */
	pvkit_u16 refused_group;
	/* Why: one of `RefusalReason`. */
	pvkit_u16 reason;
	/* Feature bits that were asked for and are not offered, or required and not chosen. */
	pvkit_u64 refused_features;
};

/*
 * ---- status ----
 *
 * Error codes: of hypercalls, of bus requests, of ring completions. Three name spaces, one type each.
 */

/* Largest detail that a `CompletionResult` holds. */
#define PVKIT_STATUS_MAX_DETAIL 0xffffffU

/*
 * CallError (u32)
 * Why a hypercall or a bus request failed. On the wire: the negated number.
 */
/* No such call, message or operation. */
#define PVKIT_CALL_ERROR_UNKNOWN 0x1U
/* An argument is outside its documented range. */
#define PVKIT_CALL_ERROR_INVALID 0x2U
/* An address or length does not lie in the guest's memory. */
#define PVKIT_CALL_ERROR_FAULT 0x3U
/* The group was not negotiated. */
#define PVKIT_CALL_ERROR_NOT_NEGOTIATED 0x4U
/* Already sealed; cannot be changed any more. */
#define PVKIT_CALL_ERROR_SEALED 0x5U
/* A limit of the host is reached. */
#define PVKIT_CALL_ERROR_LIMIT 0x6U
/* No such port, device, queue, grant or vCPU. */
#define PVKIT_CALL_ERROR_NOT_FOUND 0x7U
/* In use, or in a state that does not allow this. */
#define PVKIT_CALL_ERROR_BUSY 0x8U
/* The caller may not do this (privilege level). */
#define PVKIT_CALL_ERROR_DENIED 0x9U
/* Known, and not supported here. */
#define PVKIT_CALL_ERROR_UNSUPPORTED 0xaU
/* Belongs to an epoch that has ended. */
#define PVKIT_CALL_ERROR_STALE 0xbU
/* The negotiation was refused; the reply says why. */
#define PVKIT_CALL_ERROR_REFUSED 0xcU
/* The backend failed or is gone. */
#define PVKIT_CALL_ERROR_BACKEND 0xdU

/*
 * Status (u8)
 * How a ring request ended; the top eight bits of a completion's result.
 */
/* Done. The detail is what the operation documents. */
#define PVKIT_STATUS_OK 0x0U
/* The medium or the host's file failed; detail = the host's errno, 0 if unknown. */
#define PVKIT_STATUS_IO_ERROR 0x1U
/* The request is malformed. */
#define PVKIT_STATUS_INVALID 0x2U
/* It reaches beyond the end of the device. */
#define PVKIT_STATUS_OUT_OF_RANGE 0x3U
/* A write to a read-only device. */
#define PVKIT_STATUS_READ_ONLY 0x4U
/* An operation or flag that was not offered. */
#define PVKIT_STATUS_UNSUPPORTED 0x5U
/* Unknown or stale grant, outside the grant's extent, or lacking its access right. */
#define PVKIT_STATUS_BAD_GRANT 0x6U
/* The host's file system is full. */
#define PVKIT_STATUS_NO_SPACE 0x7U
/* The queue is closing. */
#define PVKIT_STATUS_ABORTED 0x8U
/* Not a multiple of the logical block size, or not aligned as the offer demands. */
#define PVKIT_STATUS_MISALIGNED 0x9U
/* More bytes or segments than the sealed limits allow. */
#define PVKIT_STATUS_TOO_LARGE 0xaU

/*
 * ---- ring ----
 *
 * Split rings: two rings per queue, each written by exactly one side.
 *
 * An *area* is a list of pages that read as one run of bytes: a header of `HEADER_BYTES`, then the slots. The
 * frontend's area holds requests, the backend's area completions. The header's event word is written by the area's
 * owner too: it is the owner's own sleeping position on the *other* ring.
 *
 * Indices are free-running `u32`, starting at 0; slot = index mod depth; the tag tells in which lap a slot was written.
 */

/* Bytes before the first slot of an area. */
#define PVKIT_RING_HEADER_BYTES 128U

/* Byte offset of the event word (a `u64`, index in the low 32 bits): "wake me when you publish this index". */
#define PVKIT_RING_EVENT_WORD 0U

/* Byte offset of the epoch word, stored by the owner before the queue is connected. */
#define PVKIT_RING_EPOCH_WORD 8U

/* Bytes of a request slot. */
#define PVKIT_RING_REQUEST_BYTES 32U

/* Words of a request slot. */
#define PVKIT_RING_REQUEST_WORDS 4U

/* Bytes of a completion slot; those of network receive are wide (`net::RECEIVE_COMPLETION_BYTES`). */
#define PVKIT_RING_COMPLETION_BYTES 8U

/* Smallest queue. */
#define PVKIT_RING_MIN_DEPTH 2U

/* Largest queue. */
#define PVKIT_RING_MAX_DEPTH 4096U

/* Tag of the first lap. A zeroed slot (tag 0) is empty. */
#define PVKIT_RING_FIRST_TAG 1U

/* Most pages of an area: depth 4096, 32-byte slots. */
#define PVKIT_RING_MAX_AREA_PAGES 33U

/*
 * RequestFlags (u8)
 * Flags of a request, common to all protocols (low four bits) and per protocol (high four).
 */
/* The segment names a list of `grant::Segment` instead of data. */
#define PVKIT_REQUEST_FLAGS_INDIRECT 0x1U
/* Block write: on stable storage before the completion (force unit access). */
#define PVKIT_REQUEST_FLAGS_FUA 0x10U

/*
 * ---- grant ----
 *
 * Grants: an extent of guest memory that a device's backend may use, under an id with a generation.
 *
 * Descriptors name memory as *(grant, offset, length)*, never by a raw address.
 */

/* Grants per device. */
#define PVKIT_GRANT_MAX_GRANTS 256U

#define PVKIT_GRANT_REF_NONE 0U

/*
 * Access (u32)
 * What the backend may do with the extent.
 */
/* The backend may read: data that the guest writes to a device. */
#define PVKIT_ACCESS_READ 0x1U
/* The backend may write: data that the guest reads from a device. */
#define PVKIT_ACCESS_WRITE 0x2U

/* One piece of memory. An indirect list is an array of these in granted memory. */
struct pvkit_segment {
	/* Which grant. */
	pvkit_u32 grant;
	/* Length in bytes. */
	pvkit_u32 length;
	/* Bytes from the start of the grant. */
	pvkit_u64 offset;
};

/*
 * ---- event ----
 *
 * Event channels: how the host interrupts a vCPU, and one vCPU another.
 *
 * A *port* is a number below `MAX_PORTS`, bound to one vCPU. Its pending bit stands in that vCPU's `VcpuArea`.
 */

/* Ports per guest. */
#define PVKIT_EVENT_MAX_PORTS 256U

/* Words in a pending bitmap. */
#define PVKIT_EVENT_PENDING_WORDS 4U

/* "No port": a queue or bus without an event channel is polled. */
#define PVKIT_EVENT_NO_PORT 0xffffffffU

/*
 * PortStatus (u32)
 * State of a port as `EVENT_STATUS` reports it in bits 32 and up.
 */
/* Masked by `EVENT_MASK`. */
#define PVKIT_PORT_STATUS_MASKED 0x1U
/* An event is latched behind the mask. */
#define PVKIT_PORT_STATUS_LATCHED 0x2U
/* A queue or the bus signals this port. */
#define PVKIT_PORT_STATUS_IN_USE 0x4U

/* One page per vCPU, in guest memory at `BootInfo::vcpu_areas + vcpu * PAGE_SIZE`. Each field has a line of its own. */
struct pvkit_vcpu_area {
	/*
	 * Pending ports. Both sides change it by atomic read-modify-write only: the host sets bits (Release), the guest
	 * takes a whole word by exchanging it with zero (Acquire).
	 */
	pvkit_u64 pending[4];
	/* Zero. */
	pvkit_u64 reserved0[12];
	/*
	 * Upcalls are held back while this is not zero. Written by the guest; by the host only while the vCPU does not
	 * run: it stores 1 when it delivers an upcall and 0 when it carries out `EVENT_UPCALL_RETURN`.
	 */
	pvkit_u64 upcall_mask;
	/* Zero. */
	pvkit_u64 reserved1[15];
};

/*
 * What the host stores on the upcall stack before it switches the vCPU to the upcall entry. Written by the host;
 * the guest may change it before it hands it back in `EVENT_UPCALL_RETURN`.
 */
struct pvkit_upcall_frame {
	/* rax rbx rcx rdx rsi rdi rsp rbp r8 .. r15 of the interrupted code. */
	pvkit_u64 gpr[16];
	/* Interrupted instruction. */
	pvkit_u64 rip;
	/* Flags. At return only the bits in `entry::RFLAGS_GUEST` are taken. */
	pvkit_u64 rflags;
	/* Zero. */
	pvkit_u64 reserved[2];
};

/*
 * ---- entry ----
 *
 * PV entry state: what a vCPU finds at its first instruction, and how a hypercall passes its arguments. x86-64.
 *
 * `abi/README.md` tells the whole story; these are its numbers.
 *
 * | register | at entry |
 * |---|---|
 * | rip | the image's ELF entry, or `VcpuStart::entry` |
 * | rsp | the boot stack's top, or `VcpuStart::stack_top`; 16-byte aligned minus 8, as after a `call` |
 * | rdi | guest-physical address of `discovery::BootInfo` (mapped at the same virtual address) |
 * | rsi | vCPU number |
 * | rdx | `VcpuStart::argument`, 0 on vCPU 0 |
 * | rflags | `RFLAGS_ENTRY`, with IOPL 3 at CPL 3 |
 * | others | 0 |
 *
 * A hypercall is `out dx, eax`: number in eax, port in dx, arguments in rdi rsi r8 r9 r10, result in rax; no other
 * register changes.
 */

/* CR0 at entry: PE, MP, ET, NE, WP, AM, PG. */
#define PVKIT_ENTRY_CR0 0x80050033ULL

/* CR4 at entry: PAE, OSFXSR, OSXMMEXCPT. */
#define PVKIT_ENTRY_CR4 0x620ULL

/* EFER at entry: LME, LMA, NXE. */
#define PVKIT_ENTRY_EFER 0xd00ULL

/* RFLAGS at entry: only the always-one bit; interrupts off, direction up. */
#define PVKIT_ENTRY_RFLAGS_ENTRY 2ULL

/* I/O privilege 3, set for a CPL 3 guest so that `out` works. */
#define PVKIT_ENTRY_RFLAGS_IOPL3 0x3000ULL

/* Flags that `EVENT_UPCALL_RETURN` takes from the frame: CF PF AF ZF SF DF OF AC. The rest is the host's. */
#define PVKIT_ENTRY_RFLAGS_GUEST 0x40cd5ULL

/*
 * Lowest address of the image. Below it lie the host's tables, which CPL 3 cannot reach, and at 0 nothing is mapped,
 * so that a null pointer faults.
 */
#define PVKIT_ENTRY_IMAGE_BASE_MIN 0x200000ULL

/*
 * Bytes of one exception stub of the image. The processor enters stub `vector` at the guest's own privilege level, on
 * a stack of its own, with the hardware's exception frame (error code where the vector has one) on top of it.
 */
#define PVKIT_ENTRY_EXCEPTION_STUB_BYTES 16ULL

/* Bytes of the boot stack of vCPU 0 unless the note asks for more. */
#define PVKIT_ENTRY_BOOT_STACK_BYTES 0x40000U

/*
 * Bytes below the interrupted stack pointer that an upcall on the same stack would have to spare. Upcalls have a
 * stack of their own, so this is for the guest's own use. (System V AMD64 ABI, section 3.2.2.)
 */
#define PVKIT_ENTRY_RED_ZONE_BYTES 128ULL

/*
 * ---- hypercall ----
 *
 * Hypercall numbers. The transport (how the call traps) is in `discovery`, argument registers are in
 * `entry`; numbers and argument types know nothing of x86.
 */

/* Longest single `SCHED_BLOCK`, in nanoseconds (one hour); longer waits are shortened to it. */
#define PVKIT_HYPERCALL_MAX_BLOCK_NS 0x34630b8a000ULL

/* Longest crash message taken, in bytes. */
#define PVKIT_HYPERCALL_MAX_CRASH_MESSAGE 1024ULL

/* Most bytes taken by one early console write. */
#define PVKIT_HYPERCALL_MAX_CONSOLE_WRITE 1024ULL

/*
 * Call (u32)
 * A hypercall's number: `group << 8 | index`. The result is an `i64`: negative is a `status::CallError`.
 */
/* `(in: GPA of Negotiate, out: GPA of NegotiateReply, out_size)` -> 0. Works before negotiation. Once only. */
#define PVKIT_CALL_NEGOTIATE 0x0U
/* `(vcpu)` -> port. Allocates an event channel bound to `vcpu`, unmasked. */
#define PVKIT_CALL_EVENT_ALLOC 0x100U
/* `(port, vcpu)` -> 0. Moves the port to another vCPU; a pending event moves with it. */
#define PVKIT_CALL_EVENT_BIND 0x101U
/* `(port)` -> 0. Frees the port. Fails with `BUSY` while a queue uses it. */
#define PVKIT_CALL_EVENT_CLOSE 0x102U
/* `(port, masked: 0|1)` -> 0. A masked port latches one pending event, delivered at unmask. */
#define PVKIT_CALL_EVENT_MASK 0x103U
/* `(port)` -> 0. Makes the port pending: how one vCPU notifies another. */
#define PVKIT_CALL_EVENT_SIGNAL 0x104U
/* `(port)` -> vcpu | `event::PortStatus` bits << 32. */
#define PVKIT_CALL_EVENT_STATUS 0x105U
/* `(entry, stack_top)` -> 0. Upcall entry and its own stack for the calling vCPU; `(0, 0)` removes it. */
#define PVKIT_CALL_EVENT_SET_UPCALL 0x106U
/* `(frame)` does not return: restores the `event::UpcallFrame` at `frame` and unmasks, atomically. */
#define PVKIT_CALL_EVENT_UPCALL_RETURN 0x107U
/* `(GPA of BusSetup)` -> epoch of the bus (> 0). Ends every older epoch of this guest. */
#define PVKIT_CALL_BUS_SETUP 0x200U
/* `()` -> 0. The guest published bus messages or completions. */
#define PVKIT_CALL_BUS_KICK 0x201U
/* `()` -> 0. Lets another host thread run. */
#define PVKIT_CALL_SCHED_YIELD 0x400U
/* `(timeout_ns)` -> 0 if an event is pending, 1 if the time ended first. At most `MAX_BLOCK_NS` per call. */
#define PVKIT_CALL_SCHED_BLOCK 0x401U
/*
 * `(reason: ShutdownReason, code)` does not return. `code & 0xff` becomes the exit status of the run. Works before
 * negotiation.
 */
#define PVKIT_CALL_SCHED_SHUTDOWN 0x402U
/*
 * `(GPA of text, length)` does not return. At most `MAX_CRASH_MESSAGE` bytes are taken. Works before
 * negotiation.
 */
#define PVKIT_CALL_SCHED_CRASH 0x403U
/*
 * `(vector, address of the hardware's exception frame)` does not return: an unhandled processor exception.
 * The frame starts with the error code where the vector has one.
 */
#define PVKIT_CALL_SCHED_EXCEPTION 0x404U
/* `(GPA of text, length)` -> bytes taken, at most `MAX_CONSOLE_WRITE`. */
#define PVKIT_CALL_CONSOLE_WRITE 0x500U
/* `()` -> wall clock, nanoseconds since 1970-01-01T00:00:00Z. */
#define PVKIT_CALL_TIME_WALL_CLOCK 0x600U
/* `(GPA of VcpuStart)` -> 0. Starts a vCPU that was never started. */
#define PVKIT_CALL_VCPU_START 0x800U

/*
 * ShutdownReason (u32)
 * Why a guest shuts down.
 */
/* It is done. */
#define PVKIT_SHUTDOWN_REASON_POWER_OFF 0x0U
/* It wants to be started again. */
#define PVKIT_SHUTDOWN_REASON_REBOOT 0x1U

/* Input of `VCPU_START`. Written by the guest. */
struct pvkit_vcpu_start {
	/* Size of this struct in bytes as the caller knows it. */
	pvkit_u32 size;
	/* Which vCPU, below `BootInfo::vcpu_count`. */
	pvkit_u32 vcpu;
	/* First instruction. */
	pvkit_u64 entry;
	/* Stack pointer at entry. */
	pvkit_u64 stack_top;
	/* Passed in the third argument register. */
	pvkit_u64 argument;
};

/*
 * ---- bus ----
 *
 * Device bus: devices are offered, accepted, opened and closed by typed messages over two queues, one per initiator.
 *
 * Each side owns two pages. Page 0 holds the two rings it writes: its requests (area at `REQUEST_AREA`) and its
 * completions of the other's requests (area at `COMPLETION_AREA`). Page 1 holds its message buffers
 * (`DEPTH` of `MESSAGE_BYTES`) and its replies (`DEPTH` of `REPLY_BYTES`, from `REPLIES_OFFSET`).
 * The message of a request with id `i` is the initiator's buffer `i`; its reply is the other side's reply `i`.
 */

/* Requests that may be in flight per initiator. */
#define PVKIT_BUS_DEPTH 16U

/* Offset in page 0 of the owner's request area. */
#define PVKIT_BUS_REQUEST_AREA 0U

/* Offset in page 0 of the owner's completion area. */
#define PVKIT_BUS_COMPLETION_AREA 2048U

/* Bytes of a message buffer. */
#define PVKIT_BUS_MESSAGE_BYTES 128U

/* Bytes of a reply buffer. */
#define PVKIT_BUS_REPLY_BYTES 64U

/* Offset in page 1 of the first reply. */
#define PVKIT_BUS_REPLIES_OFFSET 2048U

/* Bytes of a message's body. */
#define PVKIT_BUS_BODY_BYTES 112U

/* Bytes of class-specific configuration. */
#define PVKIT_BUS_CONFIG_BYTES 64U

/* Bytes of a control message's data. */
#define PVKIT_BUS_CONTROL_BYTES 104U

/*
 * Kind (u8)
 * Kind of a message; also the `op` of its request slot.
 */
/* Host: a device is there. Body `Offer`. */
#define PVKIT_KIND_OFFER 0x1U
/* Host: a device goes away. No body. */
#define PVKIT_KIND_RESCIND 0x2U
/* Host: the device's configuration changed. Body `ConfigChanged`. */
#define PVKIT_KIND_CONFIG_CHANGED 0x3U
/* Host: the device's state changed. Body `StateChanged`. */
#define PVKIT_KIND_STATE_CHANGED 0x4U
/* Host: messages were dropped; ask with `RESCAN` to get every offer again. No body. */
#define PVKIT_KIND_OVERFLOW 0x5U
/* Guest: take the device. Body `Accept`. */
#define PVKIT_KIND_ACCEPT 0x41U
/* Guest: connect one queue. Body `OpenQueue`. Reply values: doorbell kind, doorbell address. */
#define PVKIT_KIND_OPEN_QUEUE 0x42U
/* Guest: disconnect the device: every queue drained and detached when this completes. No body. */
#define PVKIT_KIND_CLOSE 0x43U
/* Guest: share memory with the device's backend. Body `ShareGrant`. Reply values: grant. */
#define PVKIT_KIND_GRANT_SHARE 0x44U
/* Guest: take it back; completes when the backend can no longer reach it. Body `NameGrant`. */
#define PVKIT_KIND_GRANT_REVOKE 0x45U
/* Guest: ask about a grant. Body `NameGrant`. Reply values: base, length, access. */
#define PVKIT_KIND_GRANT_QUERY 0x46U
/* Guest: send every offer again. No body. */
#define PVKIT_KIND_RESCAN 0x47U
/* Guest: set something of an accepted device. Body `Control`. */
#define PVKIT_KIND_CONTROL 0x48U

/*
 * Class (u16)
 * What kind of device is offered.
 */
/* `block`. */
#define PVKIT_CLASS_BLOCK 0x1U
/* `console`. */
#define PVKIT_CLASS_CONSOLE 0x2U
/* `net`. */
#define PVKIT_CLASS_NET 0x3U
/* `services`. */
#define PVKIT_CLASS_SERVICES 0x4U
/* `entropy`. */
#define PVKIT_CLASS_ENTROPY 0x5U

/*
 * DeviceState (u16)
 * Life of a device as the bus sees it.
 */
/* Not there. */
#define PVKIT_DEVICE_STATE_ABSENT 0x0U
/* There, not taken. */
#define PVKIT_DEVICE_STATE_OFFERED 0x1U
/* Version and features sealed; no queue is connected. */
#define PVKIT_DEVICE_STATE_ACCEPTED 0x2U
/* At least one queue is connected. */
#define PVKIT_DEVICE_STATE_CONNECTED 0x3U
/* The backend is gone; requests wait for a new epoch. */
#define PVKIT_DEVICE_STATE_DISCONNECTED 0x4U
/* Queues are being drained. */
#define PVKIT_DEVICE_STATE_CLOSING 0x5U

/*
 * DoorbellKind (u32)
 * How a queue's doorbell is rung.
 */
/* Never: the backend polls. */
#define PVKIT_DOORBELL_KIND_NONE 0x0U
/* A 32-bit write of any value to an I/O port. */
#define PVKIT_DOORBELL_KIND_PORT 0x1U
/* A 32-bit write of any value to a guest-physical address. */
#define PVKIT_DOORBELL_KIND_MEMORY 0x2U
/* A token for the in-process machine. */
#define PVKIT_DOORBELL_KIND_TOKEN 0x3U

/* Input of `BUS_SETUP`. Written by the guest. */
struct pvkit_bus_setup {
	/* Size of this struct in bytes as the caller knows it. */
	pvkit_u32 size;
	/* Event port for host-initiated messages and completions, or `NO_PORT`. */
	pvkit_u32 event_port;
	/* Addresses of the guest's two pages, zeroed by the guest. */
	pvkit_u64 guest_pages[2];
	/* Addresses of the host's two pages; the host zeroes them. */
	pvkit_u64 host_pages[2];
};

/* A bus message, in the initiator's page 1. */
struct pvkit_message {
	/* Bytes of the body that are meant. */
	pvkit_u16 size;
	/* Same as the slot's `op`. */
	pvkit_u8 kind;
	/* Zero. */
	pvkit_u8 reserved;
	/* Which device; 0 for the bus itself. Numbers are never used again while the guest runs. */
	pvkit_u32 device;
	/* Epoch that the sender means: the device's, or the bus's for the bus itself. */
	pvkit_u64 epoch;
	/* By `kind`; the rest is zero. */
	pvkit_u8 body[112];
};

/* The answer to a message, in the answerer's page 1. The completion's result carries the status alone. */
struct pvkit_reply {
	/* 0, or a negated `status::CallError`. */
	pvkit_i32 status;
	/* Device of the request. */
	pvkit_u32 device;
	/* Epoch now in force for the device. */
	pvkit_u64 epoch;
	/* By the request's kind. */
	pvkit_u64 values[6];
};

/* Body of `OFFER`. */
struct pvkit_offer {
	/* What it is. */
	pvkit_u16 device_class;
	/* Counts devices of one class, in the order of the command line. */
	pvkit_u16 instance;
	/* Newest protocol version served. */
	struct pvkit_version newest;
	/* Oldest minor version of that generation still served. */
	pvkit_u16 minor_oldest;
	/* Most queues. */
	pvkit_u16 max_queues;
	/* Greatest depth of a queue. */
	pvkit_u32 max_depth;
	/* Features that may be chosen. */
	pvkit_u64 features;
	/* Features that must be chosen. */
	pvkit_u64 required;
	/* Most entries of an indirect list. */
	pvkit_u32 max_segments;
	/* Most bytes that one request may move. */
	pvkit_u32 max_transfer;
	/* Alignment in bytes that the offset of every segment must have. */
	pvkit_u32 alignment;
	/* Zero. */
	pvkit_u32 reserved;
	/* By `class`. */
	pvkit_u8 config[64];
};

/* Body of `ACCEPT`. */
struct pvkit_accept {
	/* Chosen version. */
	struct pvkit_version version;
	/* Queues that the guest will open, 1..=`max_queues`. */
	pvkit_u16 queues;
	/* Zero. */
	pvkit_u16 reserved;
	/* Chosen features. */
	pvkit_u64 features;
};

/*
 * Body of `OPEN_QUEUE`.
 *
 * The page list is one page of `u64` addresses: the pages of the guest's request area, then those of the host's
 * completion area. The host reads it once, during the call. All pages are distinct and page-aligned.
 */
struct pvkit_open_queue {
	/* Which queue, from 0. */
	pvkit_u16 queue;
	/* Bytes of a completion: 8, or 32 for network receive. */
	pvkit_u16 completion_bytes;
	/* Slots, a power of two, `ring::MIN_DEPTH`..=`max_depth`. */
	pvkit_u32 depth;
	/* Event port for completions, or `NO_PORT`. */
	pvkit_u32 event_port;
	/* Zero. */
	pvkit_u32 reserved;
	/* Address of the page list. */
	pvkit_u64 page_list;
};

/* Body of `GRANT_SHARE`. */
struct pvkit_share_grant {
	/* Guest-physical start, page-aligned. */
	pvkit_u64 base;
	/* Bytes, a multiple of the page size. */
	pvkit_u64 length;
	/* `grant::Access`. */
	pvkit_u32 access;
	/* Zero. */
	pvkit_u32 reserved;
};

/* Body of `GRANT_REVOKE` and `GRANT_QUERY`. */
struct pvkit_name_grant {
	/* Which grant. */
	pvkit_u32 grant;
	/* Zero. */
	pvkit_u32 reserved;
};

/* Body of `CONFIG_CHANGED`. */
struct pvkit_config_changed {
	/* By the device's class. */
	pvkit_u8 config[64];
};

/* Body of `STATE_CHANGED`. */
struct pvkit_state_changed {
	/* New state. */
	pvkit_u16 state;
	/* Zero. */
	pvkit_u16 reserved[3];
};

/* Body of `CONTROL`. */
struct pvkit_control {
	/* By the device's class, for example `net::NetControl`. */
	pvkit_u16 operation;
	/* Bytes of `data` that are meant. */
	pvkit_u16 size;
	/* Zero. */
	pvkit_u32 reserved;
	/* By `operation`; zero behind `size`. */
	pvkit_u8 data[104];
};

/*
 * ---- discovery ----
 *
 * Discovery: how a guest finds its host, and the host learns what an image needs.
 */

/* `BootInfo::magic`: "pvkit-bi" in memory order. */
#define PVKIT_DISCOVERY_BOOT_MAGIC 0x69622d74696b7670ULL

/* Most entries in the memory map. */
#define PVKIT_DISCOVERY_MAX_REGIONS 16U

/*
 * First CPUID leaf to try; then in steps of `CPUID_STEP` up to `CPUID_LAST`.
 *
 * Leaf +0: eax = highest leaf, ebx ecx edx = `CPUID_SIGNATURE`. Leaf +1: eax = ABI version (major << 16 | minor),
 * ebx = transport, ecx = hypercall port. Leaf +2: eax, ebx = low, high half of the boot info's address, 0 without one.
 * At CPL 3 the instruction may show the machine's own leaves: a PV guest uses its boot info.
 */
#define PVKIT_DISCOVERY_CPUID_FIRST 0x40000000U

/* Distance of hypervisor leaf blocks. */
#define PVKIT_DISCOVERY_CPUID_STEP 256U

/* Last block to try. */
#define PVKIT_DISCOVERY_CPUID_LAST 0x4000ff00U

/* The hypercall port where nothing else says otherwise. Not 0x7e, which some hypervisors take for themselves. */
#define PVKIT_DISCOVERY_HYPERCALL_PORT 0xa50U

/* First doorbell port; queue doorbells follow every four ports. */
#define PVKIT_DISCOVERY_DOORBELL_PORT_BASE 0xb000U

/* Doorbells in the port range. */
#define PVKIT_DISCOVERY_MAX_DOORBELLS 1024U

/* Type of the ELF note that holds a `GuestNote`. */
#define PVKIT_DISCOVERY_NOTE_TYPE 1U

/* Most groups or devices in a note. */
#define PVKIT_DISCOVERY_MAX_NOTE_ENTRIES 8U

/* Twelve bytes in ebx, ecx, edx. */
#define PVKIT_DISCOVERY_CPUID_SIGNATURE "pvkitPVkit\0\0"

/* Owner name of the ELF note, with its terminator. */
#define PVKIT_DISCOVERY_NOTE_NAME "pvkit\0"

/*
 * Transport (u32)
 * How a hypercall traps.
 */
/* A write to an I/O port with the arguments in registers. */
#define PVKIT_TRANSPORT_PORT_REGISTERS 0x1U
/* Reserved: a per-vCPU argument page and a doorbell, for guests whose registers are hidden. */
#define PVKIT_TRANSPORT_ARGUMENT_PAGE 0x2U
/* Reserved: the HVC instruction. */
#define PVKIT_TRANSPORT_HVC 0x3U
/* A function call within one process: the in-process machine. */
#define PVKIT_TRANSPORT_DIRECT 0x4U

/*
 * RegionKind (u32)
 * What a range of guest-physical memory is.
 */
/* Free for the guest. */
#define PVKIT_REGION_KIND_RAM 0x1U
/* The loaded image. */
#define PVKIT_REGION_KIND_IMAGE 0x2U
/* Boot info, command line, page tables, boot stack, vCPU areas: stays as the host laid it out. */
#define PVKIT_REGION_KIND_BOOT 0x3U
/*
 * Write-back memory beside RAM that backends may be given to map: I/O buffers and rings of a guest that keeps
 * its RAM to itself. Free for the guest.
 */
#define PVKIT_REGION_KIND_WINDOW 0x4U

/*
 * BootFlags (u32)
 * Facts about this start.
 */
/* The guest was started at CPL 3. */
#define PVKIT_BOOT_FLAGS_CPL3 0x1U
/* The in-process machine: hypercalls are function calls. */
#define PVKIT_BOOT_FLAGS_IN_PROCESS 0x2U

/*
 * NoteFlags (u32)
 * What an image can do, in `GuestNote::flags`.
 */
/* May be started at CPL 3, and makes hypercalls from there. */
#define PVKIT_NOTE_FLAGS_CPL3 0x1U
/* May be started at CPL 0 (built without SSE and without a red zone below an interrupt). */
#define PVKIT_NOTE_FLAGS_CPL0 0x2U

/* One range of guest-physical memory. */
struct pvkit_region {
	/* First byte. */
	pvkit_u64 base;
	/* Bytes. */
	pvkit_u64 length;
	/* What it is. */
	pvkit_u32 kind;
	/* Zero. */
	pvkit_u32 reserved;
};

/* Written by the host before the first vCPU starts; the guest only reads it. Its address is in a register at entry. */
struct pvkit_boot_info {
	/* `BOOT_MAGIC`. */
	pvkit_u64 magic;
	/* Size of this struct in bytes as the host knows it; a guest reads the smaller of this and its own. */
	pvkit_u32 size;
	/* `BootFlags`. */
	pvkit_u32 flags;
	/* How hypercalls trap. */
	pvkit_u32 transport;
	/* The hypercall port, for `Transport::PORT_REGISTERS`. */
	pvkit_u32 port;
	/* vCPUs that may be started, this one included. */
	pvkit_u32 vcpu_count;
	/* Entries of `groups` that are meant. */
	pvkit_u32 group_count;
	/* Entries of `regions` that are meant. */
	pvkit_u32 region_count;
	/* Bytes of the command line. */
	pvkit_u32 cmdline_length;
	/* Address of the command line, UTF-8, no terminator. */
	pvkit_u64 cmdline;
	/* Address of the `event::VcpuArea` of vCPU 0; the others follow, a page each. */
	pvkit_u64 vcpu_areas;
	/* Frequency of the time-stamp counter in kHz, 0 if the guest must not use it. */
	pvkit_u64 tsc_khz;
	/* Wall clock at start, nanoseconds since 1970-01-01T00:00:00Z. */
	pvkit_u64 wall_clock_ns;
	/* Value of the time-stamp counter at `wall_clock_ns`, as the guest would read it. */
	pvkit_u64 tsc_at_start;
	/* Thirty-two random bytes to seed the guest's generators. */
	pvkit_u8 seed[32];
	/* What the host offers. */
	struct pvkit_group_offer groups[16];
	/* Where memory is, ascending, not overlapping. */
	struct pvkit_region regions[16];
};

/* A group that the image needs. */
struct pvkit_note_group {
	/* Which group. */
	pvkit_u16 group;
	/* Generation. */
	pvkit_u16 major;
	/* Least minor version. */
	pvkit_u16 minor;
	/* Zero. */
	pvkit_u16 reserved;
	/* Features without which it cannot run. */
	pvkit_u64 features;
};

/* A kind of device that the image drives. */
struct pvkit_note_device {
	/* Which kind. */
	pvkit_u16 device_class;
	/* Generation of its protocol. */
	pvkit_u16 major;
	/* Least minor version. */
	pvkit_u16 minor;
	/* How many it cannot do without. */
	pvkit_u16 required;
};

/* What a guest image needs; the host checks it before it starts a vCPU. */
struct pvkit_guest_note {
	/* Size of this struct in bytes as the image knows it. */
	pvkit_u32 size;
	/* `NoteFlags`. */
	pvkit_u32 flags;
	/* Least memory, in bytes. */
	pvkit_u64 memory;
	/* Bytes of the boot stack; 0 means `entry::BOOT_STACK_BYTES`. */
	pvkit_u32 stack;
	/* Entries of `groups` that are meant. */
	pvkit_u16 group_count;
	/* Entries of `devices` that are meant. */
	pvkit_u16 device_count;
	/*
	 * Address of 256 exception stubs of `entry::EXCEPTION_STUB_BYTES` each, in vector order, or 0: then a
	 * fault ends the guest and its registers are reported as far as the processor keeps them.
	 */
	pvkit_u64 exception_entry;
	/* Groups needed. */
	struct pvkit_note_group groups[8];
	/* Devices driven. */
	struct pvkit_note_device devices[8];
};

/*
 * ---- pci ----
 *
 * The platform function: how a stock kernel in a fully virtualized machine finds the host (PV-on-HVM). x86-64.
 *
 * One PCI function with one memory BAR. Its first page is `PlatformInfo` and a register; an MSI-X table with one entry
 * per event port follows. Hypercalls are transport 1 from CPL 0; doorbells are what `OPEN_QUEUE` answers.
 */

/*
 * Vendor of the function. Not assigned by the PCI-SIG (nor to anybody else, as of 2026): a number of our own until
 * the project has one.
 */
#define PVKIT_PCI_VENDOR_ID 0x7076U

/* Device of the function. */
#define PVKIT_PCI_DEVICE_ID 1U

/* Class code: base system peripheral, other. */
#define PVKIT_PCI_CLASS_CODE 0x88000U

/* The BAR that holds everything; 32-bit memory, not prefetchable. */
#define PVKIT_PCI_BAR 0U

/* Bytes of the BAR. */
#define PVKIT_PCI_BAR_BYTES 16384U

/* Where `PlatformInfo` starts in the BAR. Read in naturally aligned words of 4 bytes. */
#define PVKIT_PCI_INFO_OFFSET 0U

/*
 * Register of 4 bytes. Writing `RESET_ALL` ends every epoch: when the write is over, every queue is drained and
 * detached, every grant is revoked, every port is free, and nothing is negotiated. Reads as zero.
 */
#define PVKIT_PCI_RESET_OFFSET 0xf00U

/* What is written to `RESET_OFFSET`; any other value has no effect. */
#define PVKIT_PCI_RESET_ALL 0x74657372U

/* Where the MSI-X table starts in the BAR. */
#define PVKIT_PCI_MSIX_TABLE_OFFSET 4096U

/* Where the pending bits of MSI-X start in the BAR. */
#define PVKIT_PCI_MSIX_PBA_OFFSET 8192U

/* Entries of the MSI-X table: entry `n` is event port `n`. */
#define PVKIT_PCI_MSIX_ENTRIES 256U

/* `PlatformInfo::magic`: "pvkit-pf" in memory order. */
#define PVKIT_PCI_PLATFORM_MAGIC 0x66702d74696b7670ULL

/* What the host says of itself. Written by the host before the first vCPU runs; the guest only reads it. */
struct pvkit_platform_info {
	/* `PLATFORM_MAGIC`. */
	pvkit_u64 magic;
	/* Size of this struct in bytes as the host knows it; a guest reads the smaller of this and its own. */
	pvkit_u32 size;
	/* Version of the ABI, `major << 16 | minor`. */
	pvkit_u32 version;
	/* How hypercalls trap. */
	pvkit_u32 transport;
	/* The hypercall port, for `Transport::PORT_REGISTERS`. */
	pvkit_u32 port;
	/* Entries of `groups` that are meant. */
	pvkit_u32 group_count;
	/* Entries of `regions` that are meant. */
	pvkit_u32 region_count;
	/* Zero. */
	pvkit_u64 reserved[4];
	/* What the host offers. */
	struct pvkit_group_offer groups[16];
	/* Memory that grants may name: RAM, and the window if there is one. Ascending, not overlapping. */
	struct pvkit_region regions[16];
};

/*
 * ---- block ----
 *
 * Block protocol. One request moves, makes durable or drops a run of bytes.
 *
 * A request slot: word 0 as in `ring::RequestWord`; word 1 = position in bytes; word 2 = grant | length << 32;
 * word 3 = offset in the grant. `DISCARD` and `WRITE_ZEROES` carry no segment: word 2 is 0 and word 3 is the length in
 * bytes. `FLUSH` has words 1 to 3 zero. `GET_ID` writes the serial to its segment, detail = bytes written.
 *
 * Position and length are multiples of the logical block size. With `INDIRECT` the segment names the list itself
 * (16 bytes an entry, `aux` entries, length = 16 * aux); the sum of the entries' lengths is the request's length.
 */

/* Smallest logical block, in bytes. */
#define PVKIT_BLOCK_MIN_BLOCK 512U

/* Largest logical block, in bytes. */
#define PVKIT_BLOCK_MAX_BLOCK 65536U

/* Length of a serial, in bytes, padded with zeros. */
#define PVKIT_BLOCK_SERIAL_BYTES 32U

/*
 * BlockOp (u8)
 * Operation.
 */
/* Device to memory; the grant needs `WRITE`. */
#define PVKIT_BLOCK_OP_READ 0x1U
/* Memory to device; the grant needs `READ`. With `FUA` durable when completed. */
#define PVKIT_BLOCK_OP_WRITE 0x2U
/* Everything *completed* before this was submitted is durable when it completes. */
#define PVKIT_BLOCK_OP_FLUSH 0x3U
/* The run's content is of no interest any more; it reads as anything until written again. */
#define PVKIT_BLOCK_OP_DISCARD 0x4U
/* The run reads as zeroes. Takes `FUA`. */
#define PVKIT_BLOCK_OP_WRITE_ZEROES 0x5U
/* Reads the serial string. */
#define PVKIT_BLOCK_OP_GET_ID 0x6U

/*
 * BlockFeatures (u64)
 * Features of the protocol, in `Offer::features` and `Accept::features`.
 */
/* `FLUSH` and `FUA`. A device without it is durable at completion. */
#define PVKIT_BLOCK_FEATURES_FLUSH 0x1ULL
/* `DISCARD`. */
#define PVKIT_BLOCK_FEATURES_DISCARD 0x2ULL
/* `WRITE_ZEROES`. */
#define PVKIT_BLOCK_FEATURES_WRITE_ZEROES 0x4ULL
/* Indirect segment lists. */
#define PVKIT_BLOCK_FEATURES_INDIRECT 0x8ULL
/* The capacity may change; announced by CONFIG_CHANGED. */
#define PVKIT_BLOCK_FEATURES_RESIZE 0x10ULL

/*
 * BlockFlags (u32)
 * Flags in `BlockConfig`.
 */
/* Writes, discards and zeroes are refused. */
#define PVKIT_BLOCK_FLAGS_READ_ONLY 0x1U

/* The device's properties, in `Offer::config` and `ConfigChanged::config`. Written by the host. */
struct pvkit_block_config {
	/* Size in bytes, a multiple of `logical_block`. */
	pvkit_u64 capacity;
	/* Unit of position and length: a power of two, `MIN_BLOCK`..=`MAX_BLOCK`. */
	pvkit_u32 logical_block;
	/* Preferred unit, a power of two, at least `logical_block`. */
	pvkit_u32 physical_block;
	/* `BlockFlags`. */
	pvkit_u32 flags;
	/* Preferred unit of `DISCARD`, in bytes. */
	pvkit_u32 discard_granularity;
	/* Longest `DISCARD` or `WRITE_ZEROES`, in bytes. */
	pvkit_u64 max_discard;
	/* Serial, padded with zeros. */
	pvkit_u8 serial[32];
};

/*
 * ---- console ----
 *
 * Console protocol: a byte stream each way over one queue.
 *
 * Slots are laid out as in `block`, word 1 is zero. A `READ` stays in flight until input arrives.
 */

/* Longest single console request, in bytes. */
#define PVKIT_CONSOLE_MAX_TRANSFER 65536U

/*
 * ConsoleOp (u8)
 * Operation.
 */
/* Guest to host; the grant needs `READ`; detail = bytes taken (all of them on OK). */
#define PVKIT_CONSOLE_OP_WRITE 0x1U
/* Host to guest; the grant needs `WRITE`; detail = bytes delivered, 0 at end of input. */
#define PVKIT_CONSOLE_OP_READ 0x2U

/* The terminal's size, in `Offer::config` and `ConfigChanged::config`. Written by the host. */
struct pvkit_console_config {
	/* Columns, 0 if unknown. */
	pvkit_u16 columns;
	/* Rows, 0 if unknown. */
	pvkit_u16 rows;
};

/*
 * ---- net ----
 *
 * Network protocol: Ethernet frames over pairs of queues, with offload metadata in the slot.
 *
 * Pair `i` of a device is queue `2 * i` (receive) and queue `2 * i + 1` (transmit). Slots are laid out as in
 * `block`: word 2 = grant | length << 32, word 3 = offset; with INDIRECT the segment names a list of `aux`
 * segments. Word 1 is a `FrameMeta`.
 *
 * *Transmit.* One request is one frame, without its frame check sequence. Completions are 8 bytes; the detail is 0.
 * *Receive.* A request posts one buffer, word 1 zero. Completions are 32 bytes: word 0 as everywhere, detail = bytes in
 * this buffer; word 1 a `FrameMeta`; word 2 a `FrameHash`; word 3 zero. With `NetFeatures::MERGEABLE` a frame may
 * fill several buffers: all but the last completion carry `FrameFlags::MORE`, and they are published as one batch.
 * Metadata and hash stand in each of them; those of the first are meant.
 *
 * Frames in flight may be lost when the backend goes; they are never repeated.
 */

/* Bytes of a receive completion. */
#define PVKIT_NET_RECEIVE_COMPLETION_BYTES 32U

/* Bytes of an Ethernet header without tags. */
#define PVKIT_NET_ETHERNET_HEADER 14U

/* Smallest MTU, the least that IPv4 allows a link (RFC 791). */
#define PVKIT_NET_MIN_MTU 68U

/* Largest MTU. */
#define PVKIT_NET_MAX_MTU 0x2328U

/*
 * Smallest `FrameMeta::segment_size`: what fits behind an IPv4 and a TCP header at the smallest MTU. Bounds the pieces
 * of a frame.
 */
#define PVKIT_NET_MIN_SEGMENT 28U

/* Largest frame, oversized ones included: 64 KiB of IP packet behind an Ethernet header with a tag. */
#define PVKIT_NET_MAX_FRAME 0x10012U

/* Most multicast addresses in the filter; more and the guest asks for all. */
#define PVKIT_NET_MAX_MULTICAST 16U

/* Bytes of a receive-side scaling key. */
#define PVKIT_NET_RSS_KEY_BYTES 40U

/* Entries of the receive-side scaling table. */
#define PVKIT_NET_RSS_TABLE 32U

/*
 * NetOp (u8)
 * Operation.
 */
/* Memory to wire; the grant needs `READ`. */
#define PVKIT_NET_OP_TRANSMIT 0x1U
/* Posts a buffer for a received frame; the grant needs `WRITE`. */
#define PVKIT_NET_OP_RECEIVE 0x2U

/*
 * Segmentation (u8)
 * How an oversized frame is to be cut. Always together with `FrameFlags::NEEDS_CHECKSUM`.
 */
/* It is not oversized. */
#define PVKIT_SEGMENTATION_NONE 0x0U
/* TCP over IPv4. */
#define PVKIT_SEGMENTATION_TCP4 0x1U
/* TCP over IPv6. */
#define PVKIT_SEGMENTATION_TCP6 0x2U
/* UDP, over IPv4 or IPv6, into datagrams of their own, not into IP fragments. */
#define PVKIT_SEGMENTATION_UDP 0x3U

/*
 * HashKind (u8)
 * What a frame's hash covers.
 */
/* Not hashed. */
#define PVKIT_HASH_KIND_NONE 0x0U
/* IPv4 addresses. */
#define PVKIT_HASH_KIND_IPV4 0x1U
/* IPv4 addresses and TCP ports. */
#define PVKIT_HASH_KIND_TCP4 0x2U
/* IPv4 addresses and UDP ports. */
#define PVKIT_HASH_KIND_UDP4 0x3U
/* IPv6 addresses. */
#define PVKIT_HASH_KIND_IPV6 0x4U
/* IPv6 addresses and TCP ports. */
#define PVKIT_HASH_KIND_TCP6 0x5U
/* IPv6 addresses and UDP ports. */
#define PVKIT_HASH_KIND_UDP6 0x6U

/*
 * NetControl (u16)
 * What a `bus::Control` message to a network device asks for, in `Control::operation`.
 */
/* Data: `u32` of `ReceiveMode`. */
#define PVKIT_NET_CONTROL_SET_MODE 0x1U
/* Data: `MulticastFilter`. */
#define PVKIT_NET_CONTROL_SET_MULTICAST 0x2U
/* Data: `Rss`. */
#define PVKIT_NET_CONTROL_SET_RSS 0x3U
/* No data: the guest has announced itself. */
#define PVKIT_NET_CONTROL_ANNOUNCED 0x4U

/*
 * NetFeatures (u64)
 * Features of the protocol.
 */
/* The host finishes checksums that the guest leaves partial (`FrameFlags::NEEDS_CHECKSUM` on transmit). */
#define PVKIT_NET_FEATURES_TX_CHECKSUM 0x1ULL
/* The guest takes frames whose checksum is partial or already verified. */
#define PVKIT_NET_FEATURES_RX_CHECKSUM 0x2ULL
/* The host segments TCP over IPv4. Needs TX_CHECKSUM. */
#define PVKIT_NET_FEATURES_TX_TSO4 0x4ULL
/* The host segments TCP over IPv6. Needs TX_CHECKSUM. */
#define PVKIT_NET_FEATURES_TX_TSO6 0x8ULL
/* The host segments UDP. Needs TX_CHECKSUM. */
#define PVKIT_NET_FEATURES_TX_USO 0x10ULL
/* The guest takes unsegmented TCP over IPv4. Needs RX_CHECKSUM and MERGEABLE. */
#define PVKIT_NET_FEATURES_RX_TSO4 0x20ULL
/* The guest takes unsegmented TCP over IPv6. Needs RX_CHECKSUM and MERGEABLE. */
#define PVKIT_NET_FEATURES_RX_TSO6 0x40ULL
/* The guest takes unsegmented UDP. Needs RX_CHECKSUM and MERGEABLE. */
#define PVKIT_NET_FEATURES_RX_USO 0x80ULL
/* A received frame may fill several buffers. */
#define PVKIT_NET_FEATURES_MERGEABLE 0x100ULL
/* Indirect segment lists on transmit. */
#define PVKIT_NET_FEATURES_INDIRECT 0x200ULL
/* Receive modes and multicast filter by `NetControl`. */
#define PVKIT_NET_FEATURES_FILTER 0x400ULL
/* Receive-side scaling by `NetControl::SET_RSS`; completions carry hashes. */
#define PVKIT_NET_FEATURES_RSS 0x800ULL
/* The host asks the guest to announce itself after a move, by `LinkFlags::ANNOUNCE`. */
#define PVKIT_NET_FEATURES_ANNOUNCE 0x1000ULL

/*
 * FrameFlags (u8)
 * Flags of a frame.
 */
/*
 * The checksum from `checksum_start` to the end is to be stored at `checksum_start + checksum_offset`; the field
 * holds the sum of the pseudo header, with the length that the frame has before it is cut. Both fields are
 * zero without this flag.
 */
#define PVKIT_FRAME_FLAGS_NEEDS_CHECKSUM 0x1U
/*
 * Receive: the outermost transport checksum was verified. Never with `NEEDS_CHECKSUM`, which says that the
 * data never left this host and need no verification.
 */
#define PVKIT_FRAME_FLAGS_CHECKSUM_VALID 0x2U
/* Receive: the frame goes on in the next completion. */
#define PVKIT_FRAME_FLAGS_MORE 0x4U

/*
 * LinkFlags (u32)
 * State of the link, in `NetConfig::flags`.
 */
/* Frames can pass. */
#define PVKIT_LINK_FLAGS_UP 0x1U
/* The guest should announce its addresses and then send `NetControl::ANNOUNCED`. */
#define PVKIT_LINK_FLAGS_ANNOUNCE 0x2U

/*
 * ReceiveMode (u32)
 * Which frames reach the guest besides its own and broadcasts.
 */
/* All of them. */
#define PVKIT_RECEIVE_MODE_PROMISCUOUS 0x1U
/* All multicasts. */
#define PVKIT_RECEIVE_MODE_ALL_MULTICAST 0x2U

/* The device's properties, in `Offer::config` and `ConfigChanged::config`. Written by the host. */
struct pvkit_net_config {
	/* Address of the guest's port. */
	pvkit_u8 mac[6];
	/* Largest IP packet in bytes, `MIN_MTU`..=`MAX_MTU`. Fixed for the device's life. */
	pvkit_u16 mtu;
	/* `LinkFlags`. */
	pvkit_u32 flags;
	/* Speed in Mbit/s, 0 if unknown. */
	pvkit_u32 speed;
};

/* Multicast addresses that the guest listens to. */
struct pvkit_multicast_filter {
	/* Entries that are meant, at most `MAX_MULTICAST`. */
	pvkit_u32 count;
	/* The addresses, each with the group bit. */
	pvkit_u8 addresses[16][6];
};

/*
 * Receive-side scaling: pair = table\[hash mod `RSS_TABLE`\]. Frames that are not hashed go to the first pair that is
 * open.
 */
struct pvkit_rss {
	/* Bit `1 << kind` for each `HashKind` but `NONE` that is to be used; 0 turns scaling off. */
	pvkit_u32 kinds;
	/* Toeplitz key. */
	pvkit_u8 key[40];
	/* Pair for each remainder, below the number of pairs accepted. */
	pvkit_u8 table[32];
};

/*
 * ---- services ----
 *
 * Services protocol: what the host asks of a guest's kernel as a whole, and what the guest tells it.
 *
 * One queue. A `ServiceOp::LISTEN` (slots as in `block`, word 1 zero) posts a buffer for one `ServiceEvent`
 * and stays in flight until the host has something to say (detail = bytes written); a `ServiceOp::REPORT` tells the
 * host something: `aux` is a `ServiceReport`, word 1 the sequence number of the event that it answers, 0 if none;
 * words 2 and 3 are zero.
 */

/*
 * ServiceOp (u8)
 * Operation.
 */
/* Posts a buffer for an event; the grant needs `WRITE`. */
#define PVKIT_SERVICE_OP_LISTEN 0x1U
/* Tells the host something. */
#define PVKIT_SERVICE_OP_REPORT 0x2U

/*
 * ServiceKind (u32)
 * What the host asks for or tells.
 */
/* Power off in good order. Answer ACCEPTED, then `SCHED_SHUTDOWN`; or REFUSED. */
#define PVKIT_SERVICE_KIND_SHUTDOWN 0x1U
/* Restart in good order. Likewise. */
#define PVKIT_SERVICE_KIND_REBOOT 0x2U
/* Make file systems consistent and hold writes back, then answer DONE. Ends by itself at the deadline. */
#define PVKIT_SERVICE_KIND_FREEZE 0x3U
/* Writes may go on. Answer DONE. */
#define PVKIT_SERVICE_KIND_THAW 0x4U
/* The wall clock is `wall_clock_ns`; the guest was stopped for a while. Answer DONE. */
#define PVKIT_SERVICE_KIND_TIME_SYNC 0x5U
/* The guest is a copy, or was restored: `generation` is new. Answer DONE after reseeding. */
#define PVKIT_SERVICE_KIND_GENERATION 0x6U
/* Are you alive? Answer DONE. */
#define PVKIT_SERVICE_KIND_HEARTBEAT 0x7U

/*
 * ServiceReport (u16)
 * What the guest reports.
 */
/* It will do what was asked. */
#define PVKIT_SERVICE_REPORT_ACCEPTED 0x1U
/* It did what was asked. */
#define PVKIT_SERVICE_REPORT_DONE 0x2U
/* It will not. */
#define PVKIT_SERVICE_REPORT_REFUSED 0x3U
/* It is up: its services run. */
#define PVKIT_SERVICE_REPORT_READY 0x4U

/* One event. Written by the host into a posted buffer. */
struct pvkit_service_event {
	/* Size of this struct in bytes as the host knows it. */
	pvkit_u32 size;
	/* What it is. */
	pvkit_u32 kind;
	/* Number to answer with, never 0, growing. */
	pvkit_u64 sequence;
	/* Wall clock when the event was written, nanoseconds since 1970-01-01T00:00:00Z. */
	pvkit_u64 wall_clock_ns;
	/* How long the answer may take, in nanoseconds; 0 = no answer is waited for. */
	pvkit_u64 patience_ns;
	/* Generation of the machine: changes when the guest is copied or restored. */
	pvkit_u8 generation[16];
};

/* Properties of the channel, in `Offer::config` and `ConfigChanged::config`. Written by the host. */
struct pvkit_services_config {
	/* Generation of the machine now. */
	pvkit_u8 generation[16];
};

/*
 * ---- entropy ----
 *
 * Entropy protocol: random bytes of the host's generator.
 *
 * One queue; slots are laid out as in `block`, word 1 is zero.
 */

/* Longest single request, in bytes. */
#define PVKIT_ENTROPY_MAX_REQUEST 4096U

/*
 * EntropyOp (u8)
 * Operation.
 */
/* Fills the segment; the grant needs `WRITE`; detail = bytes written, which may be fewer than asked for. */
#define PVKIT_ENTROPY_OP_READ 0x1U

/*
 * Packing of words. `tag` changes with every lap of a ring; see abi/README.md, "Rings".
 */

/* Word 0 of a request slot: op | flags << 8 | id << 16 | aux << 32 | tag << 48. */
static inline pvkit_u64 pvkit_request_word(pvkit_u8 op, pvkit_u8 flags, pvkit_u16 id, pvkit_u16 aux, pvkit_u16 tag)
{
	return (pvkit_u64)op | (pvkit_u64)flags << 8 | (pvkit_u64)id << 16 | (pvkit_u64)aux << 32 | (pvkit_u64)tag << 48;
}

static inline pvkit_u8 pvkit_request_op(pvkit_u64 word) { return (pvkit_u8)word; }
static inline pvkit_u8 pvkit_request_flags(pvkit_u64 word) { return (pvkit_u8)(word >> 8); }
static inline pvkit_u16 pvkit_request_id(pvkit_u64 word) { return (pvkit_u16)(word >> 16); }
static inline pvkit_u16 pvkit_request_aux(pvkit_u64 word) { return (pvkit_u16)(word >> 32); }

/* A completion: result | id << 32 | tag << 48. */
static inline pvkit_u64 pvkit_completion_word(pvkit_u16 id, pvkit_u32 result, pvkit_u16 tag)
{
	return (pvkit_u64)result | (pvkit_u64)id << 32 | (pvkit_u64)tag << 48;
}

static inline pvkit_u32 pvkit_completion_word_result(pvkit_u64 word) { return (pvkit_u32)word; }
static inline pvkit_u16 pvkit_completion_word_id(pvkit_u64 word) { return (pvkit_u16)(word >> 32); }

/* The lap tag of a request's word 0 or of a completion. */
static inline pvkit_u16 pvkit_tag(pvkit_u64 word) { return (pvkit_u16)(word >> 48); }

/* The tag of the lap after the one with `tag`: 1, 2, .. 65535, 1, .. Never 0. */
static inline pvkit_u16 pvkit_next_tag(pvkit_u16 tag)
{
	return tag == 0xffff ? PVKIT_RING_FIRST_TAG : (pvkit_u16)(tag + 1);
}

/* A completion's result: status << 24 | detail; a detail that is too large is cut to PVKIT_STATUS_MAX_DETAIL. */
static inline pvkit_u32 pvkit_completion_result(pvkit_u8 status, pvkit_u32 detail)
{
	return (pvkit_u32)status << 24 | (detail > PVKIT_STATUS_MAX_DETAIL ? PVKIT_STATUS_MAX_DETAIL : detail);
}

static inline pvkit_u8 pvkit_completion_result_status(pvkit_u32 result) { return (pvkit_u8)(result >> 24); }
static inline pvkit_u32 pvkit_completion_result_detail(pvkit_u32 result) { return result & PVKIT_STATUS_MAX_DETAIL; }

/* A grant's name: index | generation << 16. */
static inline pvkit_u32 pvkit_grant_ref(pvkit_u16 index, pvkit_u16 generation)
{
	return (pvkit_u32)index | (pvkit_u32)generation << 16;
}

static inline pvkit_u16 pvkit_grant_ref_index(pvkit_u32 grant) { return (pvkit_u16)grant; }
static inline pvkit_u16 pvkit_grant_ref_generation(pvkit_u32 grant) { return (pvkit_u16)(grant >> 16); }

/* Offload metadata of a frame: checksum_start | checksum_offset << 16 | segment_size << 32 | segmentation << 48 | flags << 56. */
static inline pvkit_u64 pvkit_frame_meta(pvkit_u8 flags, pvkit_u16 checksum_start, pvkit_u16 checksum_offset,
					 pvkit_u8 segmentation, pvkit_u16 segment_size)
{
	return (pvkit_u64)checksum_start | (pvkit_u64)checksum_offset << 16 | (pvkit_u64)segment_size << 32 |
	       (pvkit_u64)segmentation << 48 | (pvkit_u64)flags << 56;
}

static inline pvkit_u16 pvkit_frame_meta_checksum_start(pvkit_u64 meta) { return (pvkit_u16)meta; }
static inline pvkit_u16 pvkit_frame_meta_checksum_offset(pvkit_u64 meta) { return (pvkit_u16)(meta >> 16); }
static inline pvkit_u16 pvkit_frame_meta_segment_size(pvkit_u64 meta) { return (pvkit_u16)(meta >> 32); }
static inline pvkit_u8 pvkit_frame_meta_segmentation(pvkit_u64 meta) { return (pvkit_u8)(meta >> 48); }
static inline pvkit_u8 pvkit_frame_meta_flags(pvkit_u64 meta) { return (pvkit_u8)(meta >> 56); }

/* A received frame's hash: hash | kind << 32. */
static inline pvkit_u64 pvkit_frame_hash(pvkit_u32 hash, pvkit_u8 kind)
{
	return (pvkit_u64)hash | (pvkit_u64)kind << 32;
}

static inline pvkit_u32 pvkit_frame_hash_hash(pvkit_u64 word) { return (pvkit_u32)word; }
static inline pvkit_u8 pvkit_frame_hash_kind(pvkit_u64 word) { return (pvkit_u8)(word >> 32); }

/* Pages that a ring's area of `depth` slots of `slot_bytes` needs. */
static inline pvkit_u32 pvkit_area_pages(pvkit_u32 depth, pvkit_u32 slot_bytes)
{
	return (PVKIT_RING_HEADER_BYTES + depth * slot_bytes + PVKIT_PAGE_SIZE - 1) / PVKIT_PAGE_SIZE;
}

/* An error as it stands in a result register: the negated number. */
static inline pvkit_i64 pvkit_call_result(pvkit_u32 error) { return -(pvkit_i64)error; }

#endif /* PVKIT_H */
