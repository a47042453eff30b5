/*
 * What every freestanding C environment owes its compiler, and the drivers' library too where it was built for a
 * target with an operating system. Weak: the freestanding library brings its own.
 */
#include <stddef.h>

#define OWED __attribute__((weak, optimize("no-tree-loop-distribute-patterns")))

OWED void *memcpy(void *restrict to, const void *restrict from, size_t count)
{
	for (size_t i = 0; i < count; i++)
		((unsigned char *)to)[i] = ((const unsigned char *)from)[i];
	return to;
}

OWED void *memmove(void *to, const void *from, size_t count)
{
	unsigned char *target = to;
	const unsigned char *source = from;

	if (target < source) {
		for (size_t i = 0; i < count; i++)
			target[i] = source[i];
	} else {
		for (size_t i = count; i > 0; i--)
			target[i - 1] = source[i - 1];
	}
	return to;
}

OWED void *memset(void *to, int value, size_t count)
{
	for (size_t i = 0; i < count; i++)
		((unsigned char *)to)[i] = (unsigned char)value;
	return to;
}

OWED int memcmp(const void *left, const void *right, size_t count)
{
	const unsigned char *a = left, *b = right;

	for (size_t i = 0; i < count; i++)
		if (a[i] != b[i])
			return a[i] - b[i];
	return 0;
}

OWED int bcmp(const void *left, const void *right, size_t count)
{
	return memcmp(left, right, count);
}
