/* SPDX-License-Identifier: Apache-2.0
 * References to classes on their way from the threads that load them to the agent's own thread: many write, one reads.
 * It must never wait, nor take memory: what finds no room is told by its writer. */
#pragma once

/* Classes that wait for the agent's thread; a power of two. */
#define QUEUE_CLASSES 16384

struct slot {
	/* Less the slot's own index, so that all begin with zero. */
	unsigned long turn;
	jobject class;
};

static struct slot queue[QUEUE_CLASSES];
static unsigned long queue_head, queue_tail;

static int push(jobject class)
{
	unsigned long tail = __atomic_load_n(&queue_tail, __ATOMIC_RELAXED);

	for (;;) {
		struct slot *slot = &queue[tail % QUEUE_CLASSES];
		unsigned long index = tail % QUEUE_CLASSES;
		unsigned long turn = __atomic_load_n(&slot->turn, __ATOMIC_ACQUIRE) + index;

		if (turn == tail) {
			if (__atomic_compare_exchange_n(&queue_tail, &tail, tail + 1, 1, __ATOMIC_RELAXED,
							__ATOMIC_RELAXED)) {
				slot->class = class;
				__atomic_store_n(&slot->turn, tail + 1 - index, __ATOMIC_RELEASE);
				return 1;
			}
		} else if (turn < tail) {
			return 0;
		} else {
			tail = __atomic_load_n(&queue_tail, __ATOMIC_RELAXED);
		}
	}
}

static int is_waiting(void)
{
	unsigned long index = queue_head % QUEUE_CLASSES;

	return __atomic_load_n(&queue[index].turn, __ATOMIC_ACQUIRE) + index == queue_head + 1;
}

static jobject pop(void)
{
	unsigned long index = queue_head % QUEUE_CLASSES;
	struct slot *slot = &queue[index];
	jobject class;

	if (!is_waiting())
		return 0;
	class = slot->class;
	__atomic_store_n(&slot->turn, queue_head + QUEUE_CLASSES - index, __ATOMIC_RELEASE);
	queue_head++;
	return class;
}
