/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 * Processes: which are watched, what they run, when they end. */
#pragma once

static __always_inline struct kernfs_node *cgroup_of(struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct cgroup_subsys_state *css = NULL;
	struct cgroup *cgroup;
	__s32 controller = settings.cgroup_controller;

	if (controller < 0) {
		cgroup = BPF_CORE_READ(set, dfl_cgrp);
	} else {
		/* bpf_get_current_cgroup_id is that of cgroup v2's root on a v1 or hybrid host. */
		bpf_core_read(&css, sizeof(css), &set->subsys[controller & 15]);
		cgroup = BPF_CORE_READ(css, cgroup);
	}
	return BPF_CORE_READ(cgroup, kn);
}

static __always_inline struct kernfs_node *cgroup_parent(struct kernfs_node *node)
{
	if (bpf_core_field_exists(node->__parent))
		return BPF_CORE_READ(node, __parent);
	return BPF_CORE_READ((struct kernfs_node___old *)node, parent);
}

/* A container's first exec: enters its workload, if it can be one. Returns whether to watch. */
static __always_inline bool arm(__u64 id, struct kernfs_node *node, __u32 mount_ns, __u32 tgid)
{
	struct workload *found = bpf_map_lookup_elem(&workloads, &id);
	__u32 slot = SCRATCH_EXEC;
	struct scratch *s;

	if (found) {
		__sync_fetch_and_add(&found->processes, 1);
		return !(found->flags & WORKLOAD_IGNORED);
	}
	s = bpf_map_lookup_elem(&scratch, &slot);
	if (!s)
		return false;
	__builtin_memset(&s->workload, 0, sizeof(s->workload));
	s->workload.first_exec_ns = bpf_ktime_get_boot_ns();
	s->workload.processes = 1;
	s->workload.flags = WORKLOAD_FROM_FIRST_EXEC;
	s->workload.mount_ns = mount_ns;
	s->workload.first_pid = tgid;
	bpf_probe_read_kernel_str(s->workload.cgroup_name, CGROUP_NAME, BPF_CORE_READ(node, name));
	node = cgroup_parent(node);
	if (node)
		bpf_probe_read_kernel_str(s->workload.cgroup_parent, CGROUP_NAME, BPF_CORE_READ(node, name));
	if (bpf_map_update_elem(&workloads, &id, &s->workload, BPF_NOEXIST)) {
		found = bpf_map_lookup_elem(&workloads, &id);
		if (!found) {
			count(COUNTER_UNTRACKED);
			return false;
		}
		__sync_fetch_and_add(&found->processes, 1);
	}
	return true;
}



static __always_inline bool starts_with(const char *name, const char *prefix, int length)
{
	for (int i = 0; i < length; i++)
		if (name[i] != prefix[i])
			return false;
	return true;
}

/* Whether a file is called as this program is, but for a version. */
static __always_inline bool is_called(const char *name, const char *program, int length)
{
	char next = name[length];

	return starts_with(name, program, length) &&
	       (!next || next == '.' || next == '-' || (next >= '0' && next <= '9'));
}

/* Class of reader, as soon as user space has judged the command line. */
static __always_inline __u32 reader_of(struct tracked *t)
{
	__u32 reader = t->reader, *verdict;
	__u64 hash;

	if (!(reader & READER_PROVISIONAL))
		return reader;
	hash = t->command_hash;
	verdict = bpf_map_lookup_elem(&verdicts, &hash);
	if (!verdict)
		return reader;
	t->reader = *verdict;
	return *verdict;
}

static __always_inline bool is_ignored(__u32 reader)
{
	return reader == READER_IGNORED || reader == READER_INSTALLER;
}

/* Makes another command line of one below a reader whose reads do not count. */
#define BELOW_IGNORED 0x9e3779b97f4a7c15ull

/* `before`: how what calls exec reads. */
static __always_inline __u32 classify(struct linux_binprm *bprm, struct scratch *s, struct tracked *before)
{
	struct program_name name = {};
	__u32 *program, *verdict, class = 0;
	__u64 hash = 0xcbf29ce484222325ull;
	struct file *file = bprm->file;

	bpf_probe_read_kernel_str(name.name, sizeof(name.name), BPF_CORE_READ(file, f_path.dentry, d_name.name));
	program = bpf_map_lookup_elem(&programs, &name);
	if (program)
		class = *program;
	else if (starts_with(name.name, "python", 6) || starts_with(name.name, "pypy", 4) ||
		 starts_with(name.name, "node", 4) || starts_with(name.name, "ruby", 4) ||
		 starts_with(name.name, "php", 3) || starts_with(name.name, "lsphp", 5) ||
		 /* The dynamic linker runs what its command line names. */
		 starts_with(name.name, "ld-", 3) || starts_with(name.name, "ld.so", 5) ||
		 starts_with(name.name, "ld64.so", 7))
		class = PROGRAM_JUDGED;
	if (class == PROGRAM_IGNORED)
		return READER_IGNORED;
	if (before->reader == READER_INSTALLER)
		return READER_INSTALLER;
	/* What an installer executes is judged by that, and it is not known yet whether this is one. */
	if (class != PROGRAM_JUDGED && !(before->reader & READER_PROVISIONAL))
		return READER_PLAIN;
	if (before->reader & READER_PROVISIONAL)
		hash ^= before->command_hash;
	/* What a bundler executes is its worker or an application: not judged as the same command line elsewhere. */
	if (before->reader == READER_IGNORED)
		hash ^= BELOW_IGNORED;
	for (int i = 0; i < HASHED_ARGUMENT_BYTES; i++) {
		if (i >= s->argument_bytes)
			break;
		hash = (hash ^ (__u8)s->arguments[i]) * 0x100000001b3ull;
	}
	/* Two programs may get one command line, say a python and a shell named by it. */
	hash ^= *(__u64 *)name.name;
	s->event.command_hash = hash;
	verdict = bpf_map_lookup_elem(&verdicts, &hash);
	if (verdict)
		return *verdict;
	return READER_PROVISIONAL | (__u32)hash;
}

SEC("tp_btf/sched_process_exec")
int on_exec(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	struct linux_binprm *bprm = (struct linux_binprm *)ctx[2];
	__u32 tgid = task->tgid, slot = SCRATCH_EXEC, length;
	__u32 mount_ns = task->nsproxy->mnt_ns->ns.inum;
	struct tracked *t = bpf_map_lookup_elem(&tracked, &tgid);
	struct tracked fresh = {}, before, next;
	unsigned long from, to;
	struct scratch *s;
	__u64 exec_id, used;

	if (!t && (!settings.watch_containers || mount_ns == settings.host_mount_ns))
		return 0;
	if (!t || ((t->flags & TRACKED_CONTAINER) && t->mount_ns != mount_ns)) {
		struct kernfs_node *node = cgroup_of(task);
		__u64 id = BPF_CORE_READ(node, id);

		if (!t || t->workload != id) {
			if (t) {
				struct workload *left = bpf_map_lookup_elem(&workloads, &t->workload);
				if (left)
					__sync_fetch_and_add(&left->processes, -1);
				bpf_map_delete_elem(&tracked, &tgid);
			}
			if (!arm(id, node, mount_ns, tgid))
				return 0;
			fresh.workload = id;
			fresh.flags = TRACKED_CONTAINER;
			t = &fresh;
		}
	}
	s = bpf_map_lookup_elem(&scratch, &slot);
	if (!s)
		return 0;

	from = BPF_CORE_READ(task, mm, arg_start);
	to = BPF_CORE_READ(task, mm, arg_end);
	length = to > from ? (to - from > ARGUMENT_BYTES - 1 ? ARGUMENT_BYTES - 1 : to - from) : 0;
	length &= ARGUMENT_BYTES - 1;
	/* Just written by exec itself, so resident. */
	if (bpf_probe_read_user(s->arguments, length, (void *)from))
		length = 0;
	s->argument_bytes = length;
	s->event.command_hash = 0;

	exec_id = (bpf_ktime_get_ns() << 6) | (bpf_get_smp_processor_id() & 63);
	before = *t;
	before.carries = 0;
	before.flags &= ~TRACKED_STARTED_PYTHON;
	next = before;
	next.mount_ns = mount_ns;
	before.reader = reader_of(&before);
	next.reader = classify(bprm, s, &before);
	next.command_hash = s->event.command_hash;
	next.exec_id = exec_id;
	/* Before user space can hear of it: a workload with no process counts as ended. */
	if (bpf_map_update_elem(&tracked, &tgid, &next, BPF_ANY)) {
		count(COUNTER_UNTRACKED);
		return 0;
	}
	/* An exec is told apart by its command line only where that decides what its reads mean. */
	used = report(task, &before, tgid, bprm->file, EVENT_EXEC, (__u32)s->event.command_hash, exec_id, 0,
		      SCRATCH_EXEC);
	if (used && used != exec_id) {
		/* The same program by the same parent as before: it goes by the name that was told. */
		next.exec_id = used;
		bpf_map_update_elem(&tracked, &tgid, &next, BPF_ANY);
	}
	return 0;
}

SEC("tp_btf/sched_process_fork")
int on_fork(__u64 *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx[0];
	struct task_struct *child = (struct task_struct *)ctx[1];
	__u32 parent_tgid = parent->tgid, tgid = child->tgid;
	struct tracked *t, copy;
	struct workload *w;

	if (child->pid != tgid)
		return 0;
	t = bpf_map_lookup_elem(&tracked, &parent_tgid);
	if (!t)
		return 0;
	copy = *t;
	if (bpf_map_update_elem(&tracked, &tgid, &copy, BPF_ANY)) {
		count(COUNTER_UNTRACKED);
		count_lost(copy.workload);
		return 0;
	}
	w = bpf_map_lookup_elem(&workloads, &copy.workload);
	if (w)
		__sync_fetch_and_add(&w->processes, 1);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int on_exit(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u32 tgid = task->tgid, slot = SCRATCH_EXIT;
	struct tracked *t;
	struct workload *w;
	struct scratch *s;
	__u64 workload;

	/* The leader can go before its threads: only the last one ends the process. */
	if (task->signal->live.counter != 0)
		return 0;
	t = bpf_map_lookup_elem(&tracked, &tgid);
	if (!t)
		return 0;
	workload = t->workload;
	bpf_map_delete_elem(&tracked, &tgid);
	w = bpf_map_lookup_elem(&workloads, &workload);
	if (!w || __sync_fetch_and_add(&w->processes, -1) > 1)
		return 0;
	s = bpf_map_lookup_elem(&scratch, &slot);
	if (!s)
		return 0;
	__builtin_memset(&s->event, 0, EVENT_HEADER);
	s->event.kind = EVENT_EMPTY;
	s->event.tgid = tgid;
	s->event.workload = workload;
	s->event.time_ns = bpf_ktime_get_boot_ns();
	/* Not a loss when refused: user space also looks by itself. */
	bpf_ringbuf_output(&events, &s->event, EVENT_HEADER, BPF_RB_NO_WAKEUP);
	return 0;
}
