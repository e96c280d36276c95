/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 * Sees what watched processes execute, map executable and open, once per key and epoch.
 * It must never block, change or slow noticeably what it watches, nor drop an event uncounted.
 *
 * Watched is what stands in `tracked`: put there by user space (process trees, containers that ran
 * already), at a container's exec in a mount namespace that is not the host's, and at fork of what is
 * watched. What a container runtime does before that exec is therefore never credited. */
#include "kernel.h"
#include "wire.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

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

/* ---- identity of a process ---- */

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

/* ---- path of a file ---- */

struct walk {
	struct dentry *dentry;
	struct mount *mount;
	__u32 length;
	__u32 flags;
	__u32 slot;
	bool done;
};

/* Appends one name, from the file up to the root of the mount namespace. */
static long walk_step(__u32 i, struct walk *w)
{
	struct dentry *dentry = w->dentry, *parent;
	struct mount *mount = w->mount, *above;
	struct scratch *s;
	__u32 slot = w->slot, at;
	long n;

	if (dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
		above = BPF_CORE_READ(mount, mnt_parent);
		if (above == mount) {
			w->done = true;
			return 1;
		}
		dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		/* What is mounted over "/" itself, as a container's root is, stays the root mount. */
		if (dentry != BPF_CORE_READ(above, mnt.mnt_root))
			w->flags |= EVENT_OTHER_MOUNT;
		w->dentry = dentry;
		w->mount = above;
		return 0;
	}
	parent = BPF_CORE_READ(dentry, d_parent);
	if (parent == dentry) {
		w->flags |= EVENT_DETACHED;
		w->done = true;
		return 1;
	}
	at = w->length;
	if (at >= PATH_BYTES)
		return 1;
	s = bpf_map_lookup_elem(&scratch, &slot);
	if (!s)
		return 1;
	n = bpf_probe_read_kernel_str(&s->event.bytes[at & (PATH_BYTES - 1)], NAME_BYTES,
				      BPF_CORE_READ(dentry, d_name.name));
	if (n <= 0)
		return 1;
	w->length = at + (__u32)n;
	w->dentry = parent;
	return 0;
}

static __always_inline __u64 change_time(struct inode *inode)
{
	long seconds, nanoseconds;

	if (bpf_core_field_exists(inode->i_ctime_sec)) {
		seconds = READ(inode, i_ctime_sec);
		nanoseconds = READ(inode, i_ctime_nsec);
	} else if (bpf_core_field_exists(((struct inode___timespec *)inode)->__i_ctime)) {
		seconds = BPF_CORE_READ((struct inode___timespec *)inode, __i_ctime.tv_sec);
		nanoseconds = BPF_CORE_READ((struct inode___timespec *)inode, __i_ctime.tv_nsec);
	} else {
		seconds = BPF_CORE_READ((struct inode___plain *)inode, i_ctime.tv_sec);
		nanoseconds = BPF_CORE_READ((struct inode___plain *)inode, i_ctime.tv_nsec);
	}
	return (__u64)seconds * 1000000000ull + (__u64)nanoseconds;
}

/* File systems that hold no package: their files are views of the kernel. */
static __always_inline bool pseudo(unsigned long magic)
{
	switch (magic) {
	case 0x9fa0:	 /* proc */
	case 0x62656572: /* sysfs */
	case 0x27e0eb:	 /* cgroup */
	case 0x63677270: /* cgroup2 */
	case 0x74726163: /* tracefs */
	case 0x64626720: /* debugfs */
	case 0x73636673: /* securityfs */
	case 0xcafe4a11: /* bpf */
	case 0x1cd1:	 /* devpts */
	case 0x19800202: /* mqueue */
	case 0x958458f6: /* hugetlbfs */
		return true;
	}
	return false;
}

static __always_inline struct mount *mount_of(struct vfsmount *mnt)
{
	return (struct mount *)((void *)mnt - bpf_core_field_offset(struct mount, mnt));
}

static __always_inline struct mnt_namespace *mount_namespace(struct vfsmount *mnt)
{
	struct mount *mount = mount_of(mnt);

	return BPF_CORE_READ(mount, mnt_ns);
}

/* Reports one file, unless this key was reported in this epoch. Returns the image's exec id. */
static __always_inline __u64 report(struct task_struct *task, struct tracked *t, __u32 tgid, struct file *file,
				    __u32 kind, __u32 reader, __u64 exec_id, __u32 flags, __u32 slot)
{
	struct seen_key key = {};
	struct seen *old, now;
	struct super_block *sb;
	struct dentry *dentry, *parent;
	struct vfsmount *mnt;
	struct inode *inode, *parent_inode;
	struct scratch *s;
	struct walk w = {};
	__u32 mode, length;
	__u64 time = coarse_time();

	file = TYPED(file, struct file);
	mode = READ(file, f_mode);
	if (kind == EVENT_OPEN && (!(mode & FMODE_READ) || (mode & FMODE_PATH)))
		return 0;
	dentry = READ(file, f_path.dentry);
	mnt = READ(file, f_path.mnt);
	if ((kind != EVENT_OPEN || (flags & EVENT_RESYNC)) && bpf_core_type_exists(struct backing_file)) {
		/* What overlayfs maps lies on a private mount of a layer; the user's path stands beside it. The flag
		 * that tells such files has had several values: a path of this namespace tells as well. */
		struct backing_file *backing = (struct backing_file *)file;

		mnt = BPF_CORE_READ(file, f_path.mnt);
		if (mount_namespace(mnt) != BPF_CORE_READ(task, nsproxy, mnt_ns)) {
			struct vfsmount *user = BPF_CORE_READ(backing, user_path.mnt);

			if (user && mount_namespace(user) == BPF_CORE_READ(task, nsproxy, mnt_ns)) {
				mnt = user;
				dentry = TYPED(BPF_CORE_READ(backing, user_path.dentry), struct dentry);
			}
		}
	}
	/* The dentry's inode is the one that the user sees; a file's own can be a lower layer's. */
	inode = READ(dentry, d_inode);
	if (!inode || (READ(inode, i_mode) & S_IFMT) != S_IFREG)
		return 0;
	parent = READ(dentry, d_parent);
	parent_inode = READ(parent, d_inode);

	key.workload = t->workload;
	key.inode = READ(inode, i_ino);
	key.parent_inode = READ(parent_inode, i_ino);
	key.name = READ(dentry, d_name.hash_len);
	key.mount = (__u64)mnt;
	key.change_time = change_time(inode);
	key.kind = kind;
	key.reader = reader;
	if (kind == EVENT_EXEC)
		key.name ^= t->exec_id * 0xbf58476d1ce4e5b9ull;
	old = bpf_map_lookup_elem(&seen, &key);
	/* Compared so that a clock that goes backwards does not report everything again. */
	if (old && time < old->time_ns + settings.epoch_ns)
		return old->exec_id;

	sb = BPF_CORE_READ(inode, i_sb);
	now.time_ns = time;
	now.exec_id = exec_id;
	if (pseudo(BPF_CORE_READ(sb, s_magic))) {
		bpf_map_update_elem(&seen, &key, &now, BPF_ANY);
		return exec_id;
	}

	/* From here on a number: it is calculated with. */
	mnt = (struct vfsmount *)key.mount;
	w.dentry = dentry;
	w.mount = mount_of(mnt);
	w.slot = slot;
	if (mount_namespace(mnt) != BPF_CORE_READ(task, nsproxy, mnt_ns))
		w.flags |= EVENT_FOREIGN_MOUNT;
	bpf_loop(MAX_COMPONENTS, walk_step, &w, 0);

	s = bpf_map_lookup_elem(&scratch, &slot);
	if (!s)
		return 0;
	flags |= w.flags;
	if (!w.done)
		flags |= EVENT_TRUNCATED;
	s->event.kind = kind;
	s->event.flags = flags;
	s->event.tgid = tgid;
	s->event.parent_tgid = BPF_CORE_READ(task, real_parent, tgid);
	s->event.reader = reader;
	s->event.device = BPF_CORE_READ(sb, s_dev);
	s->event.mount_ns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	s->event.workload = t->workload;
	s->event.time_ns = bpf_ktime_get_boot_ns();
	s->event.exec_id = kind == EVENT_EXEC ? exec_id : t->exec_id;
	s->event.parent_exec_id = kind == EVENT_EXEC ? t->exec_id : 0;
	s->event.inode = key.inode;
	s->event.parent_inode = key.parent_inode;
	s->event.change_time = key.change_time;
	bpf_probe_read_kernel(s->event.comm, sizeof(s->event.comm), task->comm);
	length = w.length;
	if (length > PATH_BYTES + NAME_BYTES)
		length = PATH_BYTES + NAME_BYTES;
	s->event.path_bytes = length;
	s->event.argument_bytes = 0;
	if (kind == EVENT_EXEC) {
		/* The arguments were read into the scratch buffer by the caller. */
		__u32 arguments = s->argument_bytes & (ARGUMENT_BYTES - 1);

		s->event.argument_bytes = arguments;
		bpf_probe_read_kernel(&s->event.bytes[length & (PATH_SPACE - 1)], ARGUMENT_BYTES, s->arguments);
		length += arguments;
	}
	length = (length + EVENT_HEADER) & (EVENT_SPACE - 1);
	/* User space looks by its own clock, except at an exec: the container may be gone in a moment. */
	if (bpf_ringbuf_output(&events, &s->event, length,
			       kind == EVENT_EXEC ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP)) {
		count_lost(t->workload);
		return 0;
	}
	/* Only now: what the ring buffer refused must be reported at its next sight. */
	bpf_map_update_elem(&seen, &key, &now, BPF_ANY);
	return exec_id;
}

/* ---- exec, fork, exit ---- */

static __always_inline bool starts_with(const char *name, const char *prefix, int length)
{
	for (int i = 0; i < length; i++)
		if (name[i] != prefix[i])
			return false;
	return true;
}

static __always_inline __u32 classify(struct linux_binprm *bprm, struct scratch *s)
{
	struct program_name name = {};
	__u32 *program, *verdict, class = 0;
	__u64 hash = 0xcbf29ce484222325ull;
	struct file *file = bprm->file;

	bpf_probe_read_kernel_str(name.name, sizeof(name.name), BPF_CORE_READ(file, f_path.dentry, d_name.name));
	program = bpf_map_lookup_elem(&programs, &name);
	if (program)
		class = *program;
	else if (starts_with(name.name, "python", 6) || starts_with(name.name, "pypy", 4))
		class = PROGRAM_JUDGED;
	if (class == PROGRAM_IGNORED)
		return READER_IGNORED;
	if (class != PROGRAM_JUDGED)
		return READER_PLAIN;
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
	next = before;
	next.mount_ns = mount_ns;
	next.reader = classify(bprm, s);
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

/* ---- opens and mappings ---- */

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

static __always_inline struct file *file_of(struct task_struct *task, __u32 fd)
{
	struct fdtable *table = task->files->fdt;
	struct file **files = table->fd, *file = NULL;

	if (fd >= table->max_fds)
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	return file;
}

struct found_file {
	struct file *file;
	unsigned long flags;
};

static long on_vma(struct task_struct *task, struct vm_area_struct *vma, struct found_file *found)
{
	found->file = BPF_CORE_READ(vma, vm_file);
	found->flags = BPF_CORE_READ(vma, vm_flags);
	return 0;
}

enum action { ACTION_NONE, ACTION_OPEN, ACTION_MMAP, ACTION_MPROTECT };

SEC("tp_btf/sys_exit")
int on_syscall(__u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	long result = (long)ctx[1];
	enum action action = ACTION_NONE;
	struct task_struct *task = bpf_get_current_task_btf();
	struct found_file found = {};
	unsigned long number, protection, flags, fd, address;
	struct file *file = NULL;
	struct tracked *t;
	__u32 tgid, reader;

#if defined(__TARGET_ARCH_x86)
	number = regs->orig_ax;
	if (task->thread_info.status & TS_COMPAT) {
		switch (number) {
		case COMPAT_OPEN:
		case COMPAT_CREAT:
		case COMPAT_OPENAT:
		case COMPAT_OPENAT2:
		case COMPAT_OPEN_BY_HANDLE:
			action = ACTION_OPEN;
			break;
		case COMPAT_MMAP2:
			action = ACTION_MMAP;
			break;
		case COMPAT_MPROTECT:
			action = ACTION_MPROTECT;
			break;
		}
	} else {
#else
	number = regs->syscallno;
	{
#endif
		switch (number) {
#if defined(__TARGET_ARCH_x86)
		case SYSCALL_OPEN:
		case SYSCALL_CREAT:
#endif
		case SYSCALL_OPENAT:
		case SYSCALL_OPENAT2:
		case SYSCALL_OPEN_BY_HANDLE:
			action = ACTION_OPEN;
			break;
		case SYSCALL_MMAP:
			action = ACTION_MMAP;
			break;
		case SYSCALL_MPROTECT:
			action = ACTION_MPROTECT;
			break;
		}
	}
	if (action == ACTION_NONE || (result < 0 && result > -4096))
		return 0;
	tgid = task->tgid;
	t = bpf_map_lookup_elem(&tracked, &tgid);
	if (!t)
		return 0;

	if (action == ACTION_OPEN) {
		reader = reader_of(t);
		if (reader == READER_IGNORED)
			return 0;
		file = file_of(task, (__u32)result);
		if (file)
			report(task, t, tgid, file, EVENT_OPEN, reader, 0, 0, SCRATCH_SYSCALL);
		return 0;
	}
#if defined(__TARGET_ARCH_x86)
	protection = regs->dx;
	if (task->thread_info.status & TS_COMPAT) {
		address = 0; /* ebx is not read: 32-bit mprotect falls to the next resync */
		flags = regs->si;
		fd = regs->di;
	} else {
		address = regs->di;
		flags = regs->r10;
		fd = regs->r8;
	}
#else
	address = regs->regs[0];
	protection = regs->regs[2];
	flags = regs->regs[3];
	fd = regs->regs[4];
#endif
	if (!(protection & PROT_EXEC))
		return 0;
	if (action == ACTION_MMAP) {
		if (flags & MAP_ANONYMOUS)
			return 0;
		file = file_of(task, (__u32)fd);
	} else if (!bpf_find_vma(task, address, on_vma, &found, 0)) {
		file = found.file;
	}
	if (file)
		report(task, t, tgid, file, EVENT_MAP, 0, 0, 0, SCRATCH_SYSCALL);
	return 0;
}

/* The interpreter of an ELF program is mapped by exec itself: at the first return to user space after
 * exec, the instruction pointer stands at its entry. */
SEC("tp_btf/sched_process_exec")
int on_exec_interpreter(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u32 tgid = task->tgid;
	struct tracked *t = bpf_map_lookup_elem(&tracked, &tgid);
	struct found_file found = {};
	struct pt_regs *regs;
	unsigned long address;

	if (!t)
		return 0;
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
#if defined(__TARGET_ARCH_x86)
	address = BPF_CORE_READ(regs, ip);
#else
	address = BPF_CORE_READ(regs, pc);
#endif
	if (!bpf_find_vma(task, address, on_vma, &found, 0) && found.file)
		report(task, t, tgid, found.file, EVENT_MAP, 0, 0, 0, SCRATCH_INTERPRETER);
	return 0;
}

/* Opens through io_uring run on the same task or on a worker thread of it, which shares its files. */
#define IORING_OP_OPENAT 18
#define IORING_OP_OPENAT2 28

SEC("tp_btf/io_uring_complete")
int on_io_uring(__u64 *ctx)
{
	struct io_kiocb *request = (struct io_kiocb *)ctx[1];
	struct task_struct *task = bpf_get_current_task_btf();
	__u8 operation = BPF_CORE_READ(request, opcode);
	__u32 tgid = task->tgid, reader;
	struct tracked *t;
	struct file *file;
	__s32 fd;

	if (operation != IORING_OP_OPENAT && operation != IORING_OP_OPENAT2)
		return 0;
	fd = BPF_CORE_READ(request, cqe.res);
	t = bpf_map_lookup_elem(&tracked, &tgid);
	if (!t || fd < 0)
		return 0;
	reader = reader_of(t);
	file = reader == READER_IGNORED ? NULL : file_of(task, fd);
	if (file)
		report(task, t, tgid, file, EVENT_OPEN, reader, 0, 0, SCRATCH_IO_URING);
	return 0;
}

/* ---- what already ran ---- */

static __always_inline int report_executable(struct task_struct *task, struct tracked *t, __u32 tgid, struct file *file)
{
	__u32 slot = SCRATCH_RESYNC_EXECUTABLE;
	struct scratch *s = bpf_map_lookup_elem(&scratch, &slot);

	if (!s || !t)
		return 0;
	s->argument_bytes = 0;
	report(task, t, tgid, file, EVENT_EXEC, 0, t->exec_id, EVENT_RESYNC, SCRATCH_RESYNC_EXECUTABLE);
	return 0;
}

SEC("iter/task_vma")
int resync_mappings(struct bpf_iter__task_vma *ctx)
{
	struct task_struct *task = ctx->task;
	struct vm_area_struct *vma = ctx->vma;
	struct tracked *t;
	struct file *file;
	__u32 tgid, kind;

	if (!task || !vma)
		return 0;
	tgid = task->tgid;
	if (task->pid != tgid)
		return 0;
	t = bpf_map_lookup_elem(&tracked, &tgid);
	file = vma->vm_file;
	if (!t || !file)
		return 0;
	kind = (vma->vm_flags & VM_EXEC) ? EVENT_MAP : EVENT_OPEN;
	if (kind == EVENT_OPEN && t->reader == READER_IGNORED)
		return 0;
	if (kind == EVENT_MAP && file == task->mm->exe_file)
		report_executable(task, t, tgid, file);
	else
		report(task, t, tgid, file, kind, kind == EVENT_MAP ? 0 : t->reader, 0, EVENT_RESYNC, SCRATCH_RESYNC);
	return 0;
}

SEC("iter/task_file")
int resync_files(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct tracked *t;
	__u32 tgid;

	if (!task || !file)
		return 0;
	tgid = task->tgid;
	if (task->pid != tgid)
		return 0;
	t = bpf_map_lookup_elem(&tracked, &tgid);
	if (!t || t->reader == READER_IGNORED)
		return 0;
	report(task, t, tgid, file, EVENT_OPEN, t->reader, 0, EVENT_RESYNC, SCRATCH_RESYNC_FILES);
	return 0;
}
