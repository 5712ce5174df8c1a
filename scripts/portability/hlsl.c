/* Compiles one HLSL compute shader with Microsoft's own compilers, as wgpu calls them, and prints one line:
 * `ok SECONDS BYTES` or `error SECONDS MESSAGE`. Built with mingw, run by Wine; the DLLs lie beside it.
 *
 *   hlsl.exe fxc cs_5_1 FILE       d3dcompiler_47.dll
 *   hlsl.exe dxc cs_6_6 FILE       dxcompiler.dll
 *   hlsl.exe version DLL           the file version of a DLL
 */
#define COBJMACROS
#include <windows.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The parts of the compilers' COM interfaces that are used; older mingw has no dxcapi.h. ID3DBlob and
 * IDxcBlob are the same. */
typedef struct Blob Blob;
typedef struct {
    HRESULT(WINAPI *QueryInterface)(Blob *, REFIID, void **);
    ULONG(WINAPI *AddRef)(Blob *);
    ULONG(WINAPI *Release)(Blob *);
    void *(WINAPI *GetBufferPointer)(Blob *);
    SIZE_T(WINAPI *GetBufferSize)(Blob *);
} BlobVtbl;
struct Blob {
    const BlobVtbl *vtbl;
};

typedef struct Result Result;
typedef struct {
    HRESULT(WINAPI *QueryInterface)(Result *, REFIID, void **);
    ULONG(WINAPI *AddRef)(Result *);
    ULONG(WINAPI *Release)(Result *);
    HRESULT(WINAPI *GetStatus)(Result *, HRESULT *);
    HRESULT(WINAPI *GetResult)(Result *, Blob **);
    HRESULT(WINAPI *GetErrorBuffer)(Result *, Blob **);
} ResultVtbl;
struct Result {
    const ResultVtbl *vtbl;
};

typedef struct {
    const void *text;
    SIZE_T size;
    UINT encoding;
} Source;

typedef struct Compiler Compiler;
typedef struct {
    HRESULT(WINAPI *QueryInterface)(Compiler *, REFIID, void **);
    ULONG(WINAPI *AddRef)(Compiler *);
    ULONG(WINAPI *Release)(Compiler *);
    HRESULT(WINAPI *Compile)(Compiler *, const Source *, LPCWSTR *, UINT32, void *, REFIID, void **);
} CompilerVtbl;
struct Compiler {
    const CompilerVtbl *vtbl;
};

static const GUID CLSID_DXC_COMPILER = {
    0x73e22d93, 0xe6ce, 0x47f3, {0xb5, 0xbf, 0xf0, 0x66, 0x4f, 0x39, 0xc1, 0xb0}};
static const GUID IID_DXC_COMPILER3 = {
    0x228b4687, 0x5a6a, 0x4730, {0x90, 0x0c, 0x97, 0x02, 0xb2, 0x20, 0x3f, 0x54}};
static const GUID IID_DXC_RESULT = {
    0x58346cda, 0xdde7, 0x4497, {0x94, 0x61, 0x6f, 0x87, 0xaf, 0x5e, 0x06, 0x59}};

typedef HRESULT(WINAPI *D3DCompileFn)(
    const void *, SIZE_T, const char *, const void *, void *, const char *, const char *, UINT, UINT, Blob **,
    Blob **);
typedef HRESULT(WINAPI *DxcCreateInstanceFn)(REFIID, REFIID, void **);

#define ENTRY "main"
#define D3DCOMPILE_ENABLE_STRICTNESS 0x800

static FARPROC load(const char *dll, const char *function)
{
    HMODULE module = LoadLibraryA(dll);
    FARPROC found = module ? GetProcAddress(module, function) : NULL;
    if (!found) {
        fprintf(stderr, "%s: no %s (error %lu)\n", dll, function, GetLastError());
        exit(2);
    }
    return found;
}

static char *read(const char *path, SIZE_T *size)
{
    FILE *file = fopen(path, "rb");
    long length;
    char *text;
    if (!file || fseek(file, 0, SEEK_END) || (length = ftell(file)) < 0) {
        fprintf(stderr, "%s: cannot read\n", path);
        exit(2);
    }
    rewind(file);
    text = malloc(length + 1);
    *size = fread(text, 1, length, file);
    text[*size] = 0;
    fclose(file);
    return text;
}

/* One result line; the message is cut to its first line. */
static int report(HRESULT status, double seconds, Blob *code, Blob *messages)
{
    char *text;
    if (SUCCEEDED(status) && code) {
        printf("ok %.3f %lu\n", seconds, (unsigned long)code->vtbl->GetBufferSize(code));
        return 0;
    }
    text = messages ? messages->vtbl->GetBufferPointer(messages) : "";
    printf("error %.3f %.*s (0x%08lx)\n", seconds, (int)strcspn(text, "\r\n"), text, (unsigned long)status);
    return 1;
}

static double now(void)
{
    LARGE_INTEGER ticks, frequency;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&frequency);
    return (double)ticks.QuadPart / frequency.QuadPart;
}

static int fxc(const char *profile, const char *path)
{
    SIZE_T size;
    char *text = read(path, &size);
    D3DCompileFn compile = (D3DCompileFn)load("d3dcompiler_47.dll", "D3DCompile");
    Blob *code = NULL, *messages = NULL;
    double start = now();
    HRESULT status = compile(
        text, size, path, NULL, NULL, ENTRY, profile, D3DCOMPILE_ENABLE_STRICTNESS, 0, &code, &messages);
    return report(status, now() - start, code, messages);
}

static int dxc(const char *profile, const char *path)
{
    WCHAR target[16];
    LPCWSTR arguments[] = {L"-E", L"" ENTRY, L"-T", target, L"-HV", L"2018", L"-no-warnings", L"-Ges",
                           L"-enable-16bit-types"};
    /* wgpu gives the last one to every shader of a device with f16, which needs shader model 6.2. */
    UINT32 count = strcmp(profile, "cs_6_2") < 0 ? 8 : 9;
    DxcCreateInstanceFn create = (DxcCreateInstanceFn)load("dxcompiler.dll", "DxcCreateInstance");
    Source source = {NULL, 0, CP_UTF8};
    Compiler *compiler = NULL;
    Result *result = NULL;
    Blob *code = NULL, *messages = NULL;
    HRESULT status;
    double start;
    source.text = read(path, &source.size);
    MultiByteToWideChar(CP_UTF8, 0, profile, -1, target, 16);
    status = create(&CLSID_DXC_COMPILER, &IID_DXC_COMPILER3, (void **)&compiler);
    if (FAILED(status)) {
        fprintf(stderr, "dxcompiler.dll: no compiler (0x%08lx)\n", (unsigned long)status);
        return 2;
    }
    start = now();
    status = compiler->vtbl->Compile(
        compiler, &source, arguments, count, NULL, &IID_DXC_RESULT, (void **)&result);
    if (SUCCEEDED(status)) {
        result->vtbl->GetStatus(result, &status);
        result->vtbl->GetResult(result, &code);
        result->vtbl->GetErrorBuffer(result, &messages);
    }
    return report(status, now() - start, code, messages);
}

static int version(const char *dll)
{
    DWORD unused, size = GetFileVersionInfoSizeA(dll, &unused);
    void *block = malloc(size ? size : 1);
    VS_FIXEDFILEINFO *info;
    UINT length;
    if (!size || !GetFileVersionInfoA(dll, 0, size, block) ||
        !VerQueryValueA(block, "\\", (void **)&info, &length)) {
        fprintf(stderr, "%s: no version\n", dll);
        return 2;
    }
    printf("%u.%u.%u.%u\n", HIWORD(info->dwFileVersionMS), LOWORD(info->dwFileVersionMS),
           HIWORD(info->dwFileVersionLS), LOWORD(info->dwFileVersionLS));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "fxc"))
        return fxc(argv[2], argv[3]);
    if (argc == 4 && !strcmp(argv[1], "dxc"))
        return dxc(argv[2], argv[3]);
    if (argc == 3 && !strcmp(argv[1], "version"))
        return version(argv[2]);
    fprintf(stderr, "usage: hlsl.exe fxc|dxc PROFILE FILE, or hlsl.exe version DLL\n");
    return 2;
}
