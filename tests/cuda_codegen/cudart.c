/* The calls of the CUDA runtime that torch makes for tensors without memory, answered as on a host with one H100.
   Preloaded before the real library, which finds no driver. */
#include <driver_types.h>
#include <string.h>

#define OK(name, ...) cudaError_t name(__VA_ARGS__) { return cudaSuccess; }
#define GIVES(name, type, value, ...) cudaError_t name(type *out, ##__VA_ARGS__) { *out = value; return cudaSuccess; }

GIVES(cudaGetDeviceCount, int, 1)
GIVES(cudaGetDevice, int, 0)
GIVES(cudaDriverGetVersion, int, 13000)
GIVES(cudaRuntimeGetVersion, int, 13000)
GIVES(cudaStreamCreateWithPriority, void *, (void *)1, unsigned flags, int priority)
GIVES(cudaStreamCreateWithFlags, void *, (void *)1, unsigned flags)
GIVES(cudaEventCreateWithFlags, void *, (void *)2, unsigned flags)
OK(cudaSetDevice, int device)
OK(cudaGetLastError, void)
OK(cudaPeekAtLastError, void)
OK(cudaStreamSynchronize, void *stream)
OK(cudaDeviceSynchronize, void)
OK(cudaEventRecord, void *event, void *stream)
OK(cudaEventRecordWithFlags, void *event, void *stream, unsigned flags)
OK(cudaEventSynchronize, void *event)
OK(cudaEventQuery, void *event)
OK(cudaEventDestroy, void *event)
OK(cudaStreamWaitEvent, void *stream, void *event, unsigned flags)
OK(cudaThreadExchangeStreamCaptureMode, int *mode)
OK(cudaFree, void *memory)

cudaError_t cudaStreamIsCapturing(void *stream, int *status) { *status = 0; return cudaSuccess; }
cudaError_t cudaStreamGetCaptureInfo(void *stream, int *status, ...) { *status = 0; return cudaSuccess; }
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -5; return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t *free, size_t *total) { *free = 80000000000; *total = 85000000000; return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : attribute == cudaDevAttrMultiProcessorCount ? 132 : 0;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, "NVIDIA H100 80GB HBM3");
    p->major = 9;
    p->multiProcessorCount = 132;
    p->totalGlobalMem = 85000000000;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = 2048;
    p->sharedMemPerBlock = 49152;
    p->sharedMemPerBlockOptin = 232448;
    p->sharedMemPerMultiprocessor = 233472;
    p->regsPerMultiprocessor = 65536;
    p->l2CacheSize = 50 << 20;
    return cudaSuccess;
}

/* The driver itself, which torch opens by name. */
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 0; return 0; }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 0; return 0; }
int cuCtxGetCurrent(void **context) { *context = (void *)3; return 0; }
