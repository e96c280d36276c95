/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 * Sees what watched processes execute, map executable and open, once per key and epoch.
 * It must never block, change or slow noticeably what it watches, nor drop an event uncounted.
 *
 * Watched is what stands in `tracked`: put there by user space (process trees, containers that ran
 * already), at a container's exec in a mount namespace that is not the host's, and at fork of what is
 * watched. What a container runtime does before that exec is therefore never credited. */
#include "kernel.h"
#include "wire.h"
#include "maps.h"
#include "file.h"
#include "process.h"
#include "system_calls.h"
#include "already_running.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
