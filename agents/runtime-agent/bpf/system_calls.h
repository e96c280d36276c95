/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 * System calls that open and map files, and what does so without one. */
#pragma once

static __always_inline struct file *file_of(struct task_struct *task, __u32 fd)
{
	struct fdtable *table = task->files->fdt;
	struct file **files = table->fd, *file = NULL;

	if (fd >= table->max_fds)
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	return file;
}

/* The interpreter that is mapped as a program: by the dynamic linker under whatever name, valgrind, proot. What exec maps
 * itself is none of it. */
static __always_inline __u32 carried_program(const char *name)
{
	if (is_called(name, "python", 6) || is_called(name, "pypy", 4))
		return EVENT_CARRIES_PYTHON;
	if (is_called(name, "node", 4) || is_called(name, "nodejs", 6) || is_called(name, "bun", 3) ||
	    is_called(name, "deno", 4))
		return EVENT_CARRIES_NODE;
	if (is_called(name, "ruby", 4))
		return EVENT_CARRIES_RUBY;
	if (is_called(name, "php", 3) || is_called(name, "lsphp", 5) || is_called(name, "frankenphp", 10))
		return EVENT_CARRIES_PHP;
	return 0;
}

/* A program that maps an interpreter reads modules from then on: a web server with mod_php, uWSGI. Returns whether
 * this is its first library of that kind. */
static __always_inline bool embed(struct tracked *t, struct file *file)
{
	struct program_name name = {};
	__u32 carries = 0;

	bpf_probe_read_kernel_str(name.name, sizeof(name.name), BPF_CORE_READ(file, f_path.dentry, d_name.name));
	if (!starts_with(name.name, "lib", 3) && !starts_with(name.name, "mod_php", 7)) {
		t->carries |= carried_program(name.name);
		return false;
	}
	if (starts_with(name.name, "libpython", 9) || starts_with(name.name, "libpypy", 7))
		carries = EVENT_CARRIES_PYTHON;
	else if (starts_with(name.name, "libnode.so", 10))
		carries = EVENT_CARRIES_NODE;
	else if (starts_with(name.name, "libruby", 7))
		carries = EVENT_CARRIES_RUBY;
	else if (starts_with(name.name, "libphp", 6) || starts_with(name.name, "mod_php", 7))
		carries = EVENT_CARRIES_PHP;
	if (!(carries & ~t->carries))
		return false;
	t->carries |= carries;
	return true;
}

/* No interpreter by its name, as far as that is known. */
static __always_inline bool is_other_program(__u32 reader)
{
	return reader == READER_PLAIN || (reader & READER_PROVISIONAL);
}

/* Whether Python starts from files here, in a program that carries it: each start reads `encodings` first. Of each such
 * process that is told, as frozen programs are known by its absence. */
static __always_inline bool starts_python(struct tracked *t, __u32 reader, struct file *file)
{
	struct program_name name = {};
	struct dentry *directory;

	if (!(t->carries & EVENT_CARRIES_PYTHON) || (t->flags & TRACKED_STARTED_PYTHON) || !is_other_program(reader))
		return false;
	directory = BPF_CORE_READ(file, f_path.dentry, d_parent);
	bpf_probe_read_kernel_str(name.name, sizeof(name.name), BPF_CORE_READ(directory, d_name.name));
	if (starts_with(name.name, "__pycache__", sizeof("__pycache__"))) {
		directory = BPF_CORE_READ(directory, d_parent);
		bpf_probe_read_kernel_str(name.name, sizeof(name.name), BPF_CORE_READ(directory, d_name.name));
	}
	if (!starts_with(name.name, "encodings", sizeof("encodings")))
		return false;
	t->flags |= TRACKED_STARTED_PYTHON;
	return true;
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
		if (is_ignored(reader))
			return 0;
		file = file_of(task, (__u32)result);
		if (file)
			report(task, t, tgid, file, EVENT_OPEN, reader, 0,
			       starts_python(t, reader, file) ? EVENT_OF_PROCESS : 0, SCRATCH_SYSCALL);
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
	if (!file)
		return 0;
	reader = reader_of(t);
	report(task, t, tgid, file, EVENT_MAP, reader, 0,
	       embed(t, file) && is_other_program(reader) ? EVENT_OF_PROCESS : 0, SCRATCH_SYSCALL);
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
		report(task, t, tgid, found.file, EVENT_MAP, t->reader, 0, 0, SCRATCH_INTERPRETER);
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
	file = is_ignored(reader) ? NULL : file_of(task, fd);
	if (file)
		report(task, t, tgid, file, EVENT_OPEN, reader, 0, 0, SCRATCH_IO_URING);
	return 0;
}
