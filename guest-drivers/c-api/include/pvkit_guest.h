/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * The pvkit guest drivers for C kernels on x86-64: bus, disks, consoles, network
 * cards.
 *
 * Link the static library, call pvkit_init, then pvkit_connect, then open devices. Every call that waits takes a
 * deadline, in nanoseconds of pvkit_now. A negative result is an enum pvkit_error; pvkit_strerror says it in words.
 * Handles are positive numbers; a handle that was closed is refused, not reused by accident. Calls may come from any
 * vCPU; one that finds its device (or the bus, for opening and closing) in use by another call is refused with
 * PVKIT_ERROR_BUSY and has changed nothing.
 *
 * The library needs no allocator and no C library but memcpy, memmove, memset and memcmp, which the freestanding build
 * brings along. Memory that the host sees comes from the pool given to pvkit_init and from nowhere else.
 *
 * Written from the Rust sources by `PVKIT_BLESS=1 cargo test -p pvkit-guest-c`. Do not edit.
 */

#ifndef PVKIT_GUEST_H
#define PVKIT_GUEST_H

#include <stddef.h>
#include <stdint.h>

/**
 * Why a call failed. Every call returns one of these, or a number that is not negative.
 */
enum pvkit_error
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Another call uses this device or the bus at the moment; nothing was changed.
     */
    PVKIT_ERROR_BUSY = -1,
    /**
     * An argument is impossible: a null pointer, a length of zero or beyond what memory can hold.
     */
    PVKIT_ERROR_INVALID = -2,
    /**
     * `pvkit_init` was not called, or `pvkit_connect` was not.
     */
    PVKIT_ERROR_NOT_READY = -3,
    /**
     * `pvkit_init` or `pvkit_connect` was called before.
     */
    PVKIT_ERROR_ALREADY_DONE = -4,
    /**
     * The boot info is not one of a pvkit host, or lacks what this library needs.
     */
    PVKIT_ERROR_NOT_A_HOST = -5,
    /**
     * The host does not offer a group or version that this library needs, or refused it.
     */
    PVKIT_ERROR_REFUSED = -6,
    /**
     * There is no such device, or the handle is not open.
     */
    PVKIT_ERROR_NOT_FOUND = -7,
    /**
     * Every slot of the library, or every request of the queue, is taken.
     */
    PVKIT_ERROR_FULL = -8,
    /**
     * The pool has no free page.
     */
    PVKIT_ERROR_NO_MEMORY = -9,
    /**
     * The deadline passed. What was asked for may still happen.
     */
    PVKIT_ERROR_TIMED_OUT = -10,
    /**
     * Position or length is not a multiple of the disk's logical block, or the length is zero.
     */
    PVKIT_ERROR_MISALIGNED = -11,
    /**
     * The request reaches beyond the end of the disk.
     */
    PVKIT_ERROR_OUT_OF_RANGE = -12,
    /**
     * A write to a read-only disk.
     */
    PVKIT_ERROR_READ_ONLY = -13,
    /**
     * The device does not offer the operation.
     */
    PVKIT_ERROR_UNSUPPORTED = -14,
    /**
     * The device answered with an error.
     */
    PVKIT_ERROR_IO = -15,
    /**
     * The device is gone or closing.
     */
    PVKIT_ERROR_DISCONNECTED = -16,
    /**
     * The host broke the protocol; the device is not usable any more.
     */
    PVKIT_ERROR_HOST_FAULT = -17,
    /**
     * The frame is longer than the card can send, or than the room for it; it was dropped.
     */
    PVKIT_ERROR_TOO_LONG = -18,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum pvkit_error pvkit_error;
#else
typedef int32_t pvkit_error;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A disk's properties.
 */
struct pvkit_block_geometry {
    /**
     * Size in bytes.
     */
    uint64_t capacity;
    /**
     * Unit of position and length in bytes: a power of two, 512 to 65536.
     */
    uint32_t logical_block;
    /**
     * Preferred unit in bytes.
     */
    uint32_t physical_block;
    /**
     * 1 if writes are refused, else 0.
     */
    uint32_t read_only;
    /**
     * Zero.
     */
    uint32_t reserved;
};

/**
 * A network card's properties.
 */
struct pvkit_net_facts {
    /**
     * Its address.
     */
    uint8_t mac[6];
    /**
     * Longest IP packet in bytes. A frame is at most this and 18 bytes long.
     */
    uint16_t mtu;
    /**
     * 1 if frames can pass, else 0.
     */
    uint32_t link_up;
    /**
     * Zero.
     */
    uint32_t reserved;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * What a result means, in words that end with a zero byte and live for ever. Any number may be asked for.
 */
const char *pvkit_strerror(int32_t result);

/**
 * Tells the library where things are. No hypercall is made; call it once, before anything else.
 *
 * `boot_info` is the pointer with which the host entered the kernel. `pool` is memory for everything that the host
 * will see: rings, messages, bounce buffers; whole pages of it are used, at most 4096. One disk and one console need
 * about 64 pages. `offset` is what lies between the addresses: guest-physical = virtual - offset, for the pool and for
 * what the boot info names; 0 where memory is mapped identically.
 *
 * Boot info, vCPU area and pool stay mapped for ever; the pool is not touched by the caller any more.
 */
int32_t pvkit_init(const void *boot_info,
                   void *pool,
                   size_t length,
                   uint64_t offset);

/**
 * Negotiates with the host and sets up the bus: three hypercalls, once.
 */
int32_t pvkit_connect(void);

/**
 * Monotonic nanoseconds since the guest's start; 0 before `pvkit_init`. Deadlines are in this time.
 */
uint64_t pvkit_now(void);

/**
 * Opens the disk that stands at place `instance` (from 0) of the host's disks. A handle, or an error. At most eight
 * disks are open at a time.
 */
int32_t pvkit_block_open(uint16_t instance,
                         uint64_t deadline);

/**
 * Tells a disk's properties. A size that the host changed shows here.
 *
 * `into` points to room for the struct, or is null, which is refused.
 */
int32_t pvkit_block_geometry(int32_t disk, struct pvkit_block_geometry *into);

/**
 * Reads `length` bytes at `position`; both in whole logical blocks. On an error some bytes may have been filled in.
 *
 * `into` is writable for `length` bytes, and nobody else touches them during the call.
 */
int32_t pvkit_block_read(int32_t disk,
                         uint64_t position,
                         void *into,
                         size_t length,
                         uint64_t deadline);

/**
 * Writes `length` bytes at `position`; both in whole logical blocks. Durable after the next `pvkit_block_flush`. On an
 * error any part may have been written.
 *
 * `from` is readable for `length` bytes, and nobody writes to them during the call.
 */
int32_t pvkit_block_write(int32_t disk,
                          uint64_t position,
                          const void *from,
                          size_t length,
                          uint64_t deadline);

/**
 * Makes every write that returned before durable.
 */
int32_t pvkit_block_flush(int32_t disk, uint64_t deadline);

/**
 * Has the host drain and detach the disk. On an error it stays open. What was written and not flushed may be lost.
 */
int32_t pvkit_block_close(int32_t disk,
                          uint64_t deadline);

/**
 * Opens the console that stands at place `instance` (from 0) of the host's consoles. A handle, or an error. At most
 * four consoles are open at a time.
 */
int32_t pvkit_console_open(uint16_t instance,
                           uint64_t deadline);

/**
 * Writes all of `text`; returns when the host has taken it.
 *
 * `text` is readable for `length` bytes, and nobody writes to them during the call.
 */
int32_t pvkit_console_write(int32_t console, const void *text, size_t length, uint64_t deadline);

/**
 * Reads what is there, at least one byte: how many, 0 at the end of input, or an error. After
 * `PVKIT_ERROR_TIMED_OUT` nothing is lost.
 *
 * `into` is writable for `length` bytes, and nobody else touches them during the call.
 */
int64_t pvkit_console_read(int32_t console, void *into, size_t length, uint64_t deadline);

/**
 * Has the host drain and detach the console. On an error it stays open.
 */
int32_t pvkit_console_close(int32_t console, uint64_t deadline);

/**
 * Opens the card that stands at place `instance` (from 0) of the host's network cards. A handle, or an error. At most
 * four cards are open at a time; one takes up to 140 pages of the pool.
 */
int32_t pvkit_net_open(uint16_t instance,
                       uint64_t deadline);

/**
 * Tells a card's properties. A link that went up or down shows here.
 *
 * `into` points to room for the struct, or is null, which is refused.
 */
int32_t pvkit_net_facts(int32_t net, struct pvkit_net_facts *into);

/**
 * Sends one frame: an Ethernet header and what follows, without the frame check sequence; checksums are complete. Waits
 * while the host has not taken the frames before. A frame that was sent may be lost on its way, as on a wire.
 *
 * `frame` is readable for `length` bytes, and nobody writes to them during the call.
 */
int32_t pvkit_net_send(int32_t net,
                       const void *frame,
                       size_t length,
                       uint64_t deadline);

/**
 * Receives one frame: its length in bytes, or an error. `PVKIT_ERROR_TIMED_OUT` says that none came;
 * `PVKIT_ERROR_TOO_LONG` that one did not fit and was dropped: room for the MTU and 18 bytes is always enough.
 *
 * `into` is writable for `room` bytes, and nobody else touches them during the call.
 */
int32_t pvkit_net_receive(int32_t net,
                          void *into,
                          size_t room,
                          uint64_t deadline);

/**
 * Has the host drain and detach the card. On an error it stays open. Frames on their way may be lost.
 */
int32_t pvkit_net_close(int32_t net, uint64_t deadline);

/**
 * Ends the guest; `code` becomes the exit status of the run. Spins if `pvkit_init` was not called: there is no host to
 * ask.
 */
void pvkit_shutdown(uint8_t code) __attribute__((noreturn));

/**
 * Ends the guest with its last words, of which the host takes 1024 bytes, and its registers. Spins if `pvkit_init` was
 * not called.
 *
 * `text` is readable for `length` bytes, and nobody writes to them any more.
 */
void pvkit_crash(const void *text,
                 size_t length) __attribute__((noreturn));

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PVKIT_GUEST_H */
