/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 * The few kernel types that the programs read, found at load time by name (CO-RE), so that one object
 * runs on many kernels. Only fields that are used stand here; their order and offsets mean nothing. */
#pragma once

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

/* Of include/uapi/linux/bpf.h. */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };
enum { BPF_F_NO_PREALLOC = 1 };
enum { BPF_ANY = 0, BPF_NOEXIST = 1, BPF_EXIST = 2 };

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

struct qstr {
	union {
		struct {
			__u32 hash;
			__u32 len;
		};
		__u64 hash_len;
	};
	const unsigned char *name;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
};

struct timespec64 {
	long tv_sec;
	long tv_nsec;
};

struct inode {
	__u16 i_mode;
	unsigned long i_ino;
	struct super_block *i_sb;
	long i_ctime_sec;
	__u32 i_ctime_nsec;
};
/* Before 6.11 and before 6.6. */
struct inode___timespec {
	struct timespec64 __i_ctime;
};
struct inode___plain {
	struct timespec64 i_ctime;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct ns_common {
	unsigned int inum;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct mnt_namespace *mnt_ns;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	unsigned int f_mode;
	struct path f_path;
};

/* Since 6.7: what overlayfs maps carries the user's path beside the real one. */
struct backing_file {
	struct path user_path;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct kernfs_node {
	struct kernfs_node *__parent;
	const char *name;
	__u64 id;
};
/* Before 6.15. */
struct kernfs_node___old {
	struct kernfs_node *parent;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct css_set {
	struct cgroup_subsys_state *subsys[16];
	struct cgroup *dfl_cgrp;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct signal_struct {
	atomic_t live;
};

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
	struct file *exe_file;
};

struct thread_info {
	__u32 status;
};

struct task_struct {
	struct thread_info thread_info;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct mm_struct *mm;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct css_set *cgroups;
	char comm[16];
};

struct vm_area_struct {
	unsigned long vm_flags;
	struct mm_struct *vm_mm;
	struct file *vm_file;
};

struct linux_binprm {
	struct file *file;
};

struct io_cqe {
	__s32 res;
};

struct io_kiocb {
	__u8 opcode;
	struct io_cqe cqe;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long di;
	unsigned long si;
	unsigned long dx;
	unsigned long r10;
	unsigned long r8;
	unsigned long ip;
	unsigned long orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__u64 pc;
	int syscallno;
};
#else
#error "plimsoll: this architecture has no system call table in kernel.h"
#endif

struct bpf_iter_meta {
	struct seq_file *seq;
};
struct bpf_iter__task_vma {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	struct vm_area_struct *vma;
};
struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#pragma clang attribute pop

/* Of include/linux/fs.h, include/uapi/linux/stat.h and mman.h. */
#define FMODE_READ 0x1
#define FMODE_PATH 0x4000
#define S_IFMT 0170000
#define S_IFREG 0100000
#define PROT_EXEC 0x4
#define MAP_ANONYMOUS 0x20
#define VM_EXEC 0x4

/* System calls that open or map, native and 32-bit, by architecture. */
#if defined(__TARGET_ARCH_x86)
#define TS_COMPAT 0x2
#define SYSCALL_OPEN 2
#define SYSCALL_MMAP 9
#define SYSCALL_MPROTECT 10
#define SYSCALL_CREAT 85
#define SYSCALL_OPENAT 257
#define SYSCALL_OPEN_BY_HANDLE 304
#define SYSCALL_OPENAT2 437
#define COMPAT_OPEN 5
#define COMPAT_CREAT 8
#define COMPAT_MPROTECT 125
#define COMPAT_MMAP2 192
#define COMPAT_OPENAT 295
#define COMPAT_OPEN_BY_HANDLE 342
#define COMPAT_OPENAT2 437
#else
#define SYSCALL_OPENAT 56
#define SYSCALL_MMAP 222
#define SYSCALL_MPROTECT 226
#define SYSCALL_OPEN_BY_HANDLE 265
#define SYSCALL_OPENAT2 437
#endif
