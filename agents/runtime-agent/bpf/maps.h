/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 * The maps, the counters of what was lost, and how kernel structures are read. */
#pragma once

/* Since 6.2 a pointer can be given its type, and be read without a call for each field. The object is built both
 * ways, and the loader takes the one that the kernel can. */
#ifdef TYPED_POINTERS
extern void *bpf_rdonly_cast(const void *object, __u32 type) __ksym;
#define TYPED(pointer, type) ((type *)bpf_rdonly_cast(pointer, bpf_core_type_id_kernel(type)))
#define READ(pointer, field) ((pointer)->field)
#else
#define TYPED(pointer, type) (pointer)
#define READ(pointer, field) BPF_CORE_READ(pointer, field)
#endif

/* Set before loading; part of the hash that names the pins. */
const volatile struct settings settings SEC(".rodata.settings") = {};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_TRACKED);
	__type(key, __u32); /* process (tgid) as the initial pid namespace numbers it */
	__type(value, struct tracked);
} tracked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_WORKLOADS);
	__type(key, __u64);
	__type(value, struct workload);
} workloads SEC(".maps");

/* Kept where the watch is kept: what was learned from events that nobody will report again. Few workloads have one. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_WORKLOADS);
	__type(key, __u64);
	__type(value, struct note);
} notes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_SEEN);
	__type(key, struct seen_key);
	__type(value, struct seen);
} seen SEC(".maps");

/* Programs whose reads count by a rule: base name → PROGRAM_*. Filled by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PROGRAMS);
	__type(key, struct program_name);
	__type(value, __u32);
} programs SEC(".maps");

/* User space's judgement of a command line: hash → READER_*. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_VERDICTS);
	__type(key, __u64);
	__type(value, __u32);
} verdicts SEC(".maps");

/* One buffer per program, since programs of one kind never nest on one processor. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCH_COUNT);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/* What could not be charged to a workload. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COUNTER_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* Nanoseconds since boot, set by user space about once a second: reading a clock at every open costs more. It stands
 * still while no agent runs, and so does the epoch. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} coarse_clock SEC(".maps");

static __always_inline __u64 coarse_time(void)
{
	__u32 zero = 0;
	__u64 *time = bpf_map_lookup_elem(&coarse_clock, &zero);

	return time ? *time : 0;
}

static __always_inline void count(__u32 which)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &which);
	if (n)
		__sync_fetch_and_add(n, 1);
}

static __always_inline void count_lost(__u64 workload)
{
	struct workload *w = bpf_map_lookup_elem(&workloads, &workload);
	if (w)
		__sync_fetch_and_add(&w->lost, 1);
	else
		count(COUNTER_LOST);
}
