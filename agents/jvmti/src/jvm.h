/* SPDX-License-Identifier: Apache-2.0
 * The part of the JVM Tool Interface (version 1.2) and of JNI that the agent calls, by the numbers that their
 * specifications give to functions and events; tests/library.rs compares these with a JDK's headers. No capability is
 * asked for.
 * It must never name a function that JDK 8 lacks. */
#pragma once

#include "system_calls.h"

typedef int jint;
typedef long long jlong;
typedef unsigned char jboolean;
typedef void *jobject;
typedef void *method_id;
typedef void *field_id;
typedef union {
	jlong number;
	jobject object;
} jvalue;

/* Interfaces are pointers to tables of functions. */
typedef const void *const **interface;

#define JNI_OK 0
#define JNI_ERR (-1)
#define JNI_EDETACHED (-2)
#define JVMTI_VERSION_1_2 0x30010200
#define JNI_VERSION_1_6 0x00010006

/* Function numbers of the specification count from 1. */
#define JVMTI(environment, number, type) ((type)(*(environment))[(number) - 1])
#define JNI(environment, number, type) ((type)(*(environment))[number])

/* The invocation interface. */
#define VM_GET_ENV 6
typedef jint (*get_env_fn)(interface, interface *, jint);

#define JVMTI_SET_EVENT_NOTIFICATION_MODE 2
#define JVMTI_RUN_AGENT_THREAD 12
#define JVMTI_GET_TOP_THREAD_GROUPS 13
#define JVMTI_DEALLOCATE 47
#define JVMTI_GET_CLASS_SIGNATURE 48
#define JVMTI_GET_CLASS_LOADER 57
#define JVMTI_GET_LOADED_CLASSES 78
#define JVMTI_SET_EVENT_CALLBACKS 122
#define JVMTI_DISPOSE_ENVIRONMENT 127
#define JVMTI_GET_SYSTEM_PROPERTY 131

typedef jint (*mode_fn)(interface, jint mode, jint event, jobject thread, ...);
typedef void (*start_fn)(interface, interface, void *);
typedef jint (*run_fn)(interface, jobject thread, start_fn, const void *, jint priority);
typedef jint (*list_fn)(interface, jint *count, jobject **list);
typedef jint (*deallocate_fn)(interface, void *);
typedef jint (*signature_fn)(interface, jobject, char **signature, char **generic);
typedef jint (*loader_fn)(interface, jobject, jobject *loader);
typedef jint (*callbacks_fn)(interface, const void *, jint size_bytes);
typedef jint (*dispose_fn)(interface);
typedef jint (*property_fn)(interface, const char *, char **);

#define JVMTI_ENABLE 1
#define JVMTI_DISABLE 0
#define EVENT_VM_INIT 50
#define EVENT_VM_DEATH 51
#define EVENT_CLASS_LOAD 55
/* Callbacks stand in the order of the events. */
#define EVENT_FIRST 50
#define EVENT_COUNT 6
#define THREAD_NORMAL_PRIORITY 5

#define JNI_FIND_CLASS 6
#define JNI_EXCEPTION_CLEAR 17
#define JNI_PUSH_LOCAL_FRAME 19
#define JNI_POP_LOCAL_FRAME 20
#define JNI_NEW_GLOBAL_REF 21
#define JNI_DELETE_GLOBAL_REF 22
#define JNI_IS_SAME_OBJECT 24
#define JNI_NEW_OBJECT_A 30
#define JNI_GET_METHOD_ID 33
#define JNI_CALL_OBJECT_METHOD_A 36
#define JNI_GET_FIELD_ID 94
#define JNI_GET_OBJECT_FIELD 95
#define JNI_GET_STRING_LENGTH 164
#define JNI_NEW_STRING_UTF 167
#define JNI_GET_STRING_UTF_LENGTH 168
#define JNI_GET_STRING_UTF_REGION 221
#define JNI_NEW_WEAK_GLOBAL_REF 226
#define JNI_DELETE_WEAK_GLOBAL_REF 227
#define JNI_EXCEPTION_CHECK 228

typedef jobject (*find_class_fn)(interface, const char *);
typedef void (*clear_fn)(interface);
typedef jint (*push_fn)(interface, jint);
typedef jobject (*pop_fn)(interface, jobject);
typedef jobject (*object_fn)(interface, jobject);
typedef void (*drop_fn)(interface, jobject);
typedef jobject (*call_fn)(interface, jobject, method_id, const jvalue *);
typedef void *(*id_fn)(interface, jobject, const char *name, const char *signature);
typedef jobject (*field_fn)(interface, jobject, field_id);
typedef jint (*length_fn)(interface, jobject);
typedef jobject (*string_fn)(interface, const char *);
typedef void (*region_fn)(interface, jobject, jint from, jint length, char *);
typedef jboolean (*check_fn)(interface);
typedef jboolean (*same_fn)(interface, jobject, jobject);
