/* A driver's library that has one GPU, and says of it what a file says: lines of a word and a
   number. An `xid` is told once to each set of events; `lost 1` answers everything with a loss. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, UNKNOWN_HANDLE = 2, TIMEOUT = 10, LOST = 15 };
#define DEVICE ((void *)0x1234)

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu, compute; } Process;
typedef struct { void *device; unsigned long long type, data; unsigned gpu, compute; } Event;
typedef struct { unsigned long long types; long told; } Set;

static int look(const char *word, long long *number) {
  char line[128], name[64];
  int found = 0;
  long long value;
  FILE *file = fopen(getenv("FAKE_NVML"), "r");
  if (!file) return 0;
  while (fgets(line, sizeof line, file))
    if (sscanf(line, "%63s %lld", name, &value) == 2 && !strcmp(name, word)) {
      *number = value;
      found++;
    }
  fclose(file);
  return found;
}

static int is_lost(void) {
  long long lost = 0;
  return look("lost", &lost) && lost;
}

static int tell(const char *word, unsigned long long *number) {
  long long value;
  if (is_lost()) return LOST;
  if (!look(word, &value)) return NOT_SUPPORTED;
  *number = (unsigned long long)value;
  return OK;
}

int nvmlInit_v2(void) {
  long long code = 0;
  return look("init", &code) ? (int)code : OK;
}
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : "Refused"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { return snprintf(text, size, "580.65.06") < 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = DEVICE; return index ? NOT_FOUND : OK; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
  *device = DEVICE;
  return strcmp(uuid, "GPU-1") ? NOT_FOUND : OK;
}
int nvmlDeviceGetName(void *device, char *text, unsigned size) {
  return device == DEVICE ? snprintf(text, size, "Fake GPU") < 0 : UNKNOWN_HANDLE;
}
int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
  return device == DEVICE ? snprintf(text, size, "GPU-1") < 0 : UNKNOWN_HANDLE;
}
int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
  if (device != DEVICE) return UNKNOWN_HANDLE;
  memory->total = 8ULL << 30;
  memory->free = 6ULL << 30;
  return tell("used", &memory->used);
}
int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *celsius) {
  unsigned long long value = 0;
  int code = device == DEVICE && sensor == 0 ? tell("temperature", &value) : UNKNOWN_HANDLE;
  *celsius = (unsigned)value;
  return code;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *bits) {
  return device == DEVICE ? tell("reasons", bits) : UNKNOWN_HANDLE;
}
int nvmlDeviceGetTotalEccErrors(void *device, unsigned kind, unsigned counter, unsigned long long *count) {
  if (device != DEVICE || counter != 0) return UNKNOWN_HANDLE;
  return tell(kind ? "uncorrected" : "corrected", count);
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, Process *found) {
  unsigned long long pid, used;
  int code = device == DEVICE ? tell("pid", &pid) : UNKNOWN_HANDLE;
  if (code) return code;
  if (*count < 2) return NOT_SUPPORTED;
  *count = tell("alone", &used) || !used ? 2 : 1;
  found[0] = (Process){1, ~0ULL, 0, 0};
  found[*count - 1] = (Process){(unsigned)pid, tell("process", &used) ? ~0ULL : used, 0, 0};
  return OK;
}
int nvmlEventSetCreate(void **set) {
  long long number;
  if (look("no_events", &number)) return NOT_SUPPORTED;
  *set = calloc(1, sizeof(Set));
  return OK;
}
int nvmlEventSetFree(void *set) { free(set); return OK; }
int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set) {
  long long number;
  if (device != DEVICE) return UNKNOWN_HANDLE;
  ((Set *)set)->types = types;
  ((Set *)set)->told = look("xid", &number); /* what was before is not told */
  return OK;
}
int nvmlEventSetWait_v2(void *opaque, Event *event, unsigned timeout_ms) {
  Set *set = opaque;
  for (unsigned waited_ms = 0;; waited_ms += 5) {
    long long number;
    if (is_lost()) return LOST;
    if (set->types == 8 && look("xid", &number) > set->told) {
      set->told = look("xid", &number);
      *event = (Event){DEVICE, 8, (unsigned long long)number, 0, 0};
      return OK;
    }
    if (waited_ms >= timeout_ms) return TIMEOUT;
    usleep(5000);
  }
}
