/*
 * What C cannot say: 256 exception stubs of 16 bytes. The processor enters stub `vector` with its frame on the stack;
 * the stub pushes the vector as raw bytes (so that all stubs have one length) and tells the host, which ends the guest
 * with a report. The entry itself, pvkit_start, is C: the host has set up a stack and its arguments by the C convention.
 */
/* As in pvkit.h, whose types the assembler does not understand; note.c asserts that they agree. */
#define HYPERCALL_PORT 0xa50
#define SCHED_EXCEPTION 0x404

	.section .text.exceptions, "ax"
	.balign	16
	.global	exception_stubs
exception_stubs:
	.set	vector, 0
	.rept	256
	.balign	16
	.byte	0x68
	.long	vector
	jmp	report
	.set	vector, vector + 1
	.endr
	.balign	16
report:
	popq	%rdi
	movq	%rsp, %rsi
	movl	$HYPERCALL_PORT, %edx
	movl	$SCHED_EXCEPTION, %eax
	outl	%eax, %dx
spin:
	pause
	jmp	spin

	.section .note.GNU-stack, "", @progbits
