/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 * A file: its path, what tells it apart, and its report to user space. */
#pragma once

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
		/* Since Linux 6.13 the highest bit says that the time was asked for. */
		nanoseconds = (__u32)READ(inode, i_ctime_nsec) & 0x7fffffff;
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

/* A JVM is told at each mapping: its classes are asked of every process. */
static __always_inline bool is_jvm(struct dentry *dentry)
{
	char name[sizeof("libjvm.so")] = {};

	/* A longer name comes back cut, and full. */
	return bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(dentry, d_name.name)) == sizeof(name) &&
	       BPF_CORE_READ(dentry, d_name.len) == sizeof(name) - 1 && name[3] == 'j' && name[4] == 'v' &&
	       name[5] == 'm' && name[6] == '.' && name[7] == 's' && name[8] == 'o';
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
	/* The same file means more once an interpreter was mapped. What is mapped means the same to all. */
	key.reader = kind == EVENT_MAP ? 0 : kind == EVENT_OPEN ? reader ^ t->carries : reader;
	if (kind == EVENT_EXEC)
		key.name ^= t->exec_id * 0xbf58476d1ce4e5b9ull;
	if ((flags & EVENT_OF_PROCESS) || (kind == EVENT_MAP && is_jvm(dentry)))
		key.name ^= (tgid + (t->exec_id << 20)) * 0xbf58476d1ce4e5b9ull;
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
	flags |= w.flags | t->carries;
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
