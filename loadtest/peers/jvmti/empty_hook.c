/* SPDX-License-Identifier: Apache-2.0
 * The peer of the JVM's agent: a ClassFileLoadHook that transforms nothing, as an agent does that only wants to see classes.
 * Compiled against the JDK's own jvmti.h. */
#include <jvmti.h>
#include <string.h>

static volatile long classes;

static void JNICALL hook(jvmtiEnv *tools, JNIEnv *jni, jclass redefined, jobject loader, const char *name, jobject domain,
			 jint length, const unsigned char *bytes, jint *new_length, unsigned char **new_bytes)
{
	(void)tools, (void)jni, (void)redefined, (void)loader, (void)name, (void)domain, (void)length, (void)bytes;
	(void)new_length, (void)new_bytes;
	__atomic_add_fetch(&classes, 1, __ATOMIC_RELAXED);
}

JNIEXPORT jint JNICALL Agent_OnLoad(JavaVM *vm, char *options, void *reserved)
{
	jvmtiEnv *tools;
	jvmtiCapabilities capabilities;
	jvmtiEventCallbacks callbacks;

	(void)options, (void)reserved;
	memset(&capabilities, 0, sizeof(capabilities));
	memset(&callbacks, 0, sizeof(callbacks));
	capabilities.can_generate_all_class_hook_events = 1;
	callbacks.ClassFileLoadHook = hook;
	if ((*vm)->GetEnv(vm, (void **)&tools, JVMTI_VERSION_1_2) ||
	    (*tools)->AddCapabilities(tools, &capabilities) ||
	    (*tools)->SetEventCallbacks(tools, &callbacks, sizeof(callbacks)) ||
	    (*tools)->SetEventNotificationMode(tools, JVMTI_ENABLE, JVMTI_EVENT_CLASS_FILE_LOAD_HOOK, NULL))
		return JNI_ERR;
	return JNI_OK;
}
