"""What PyTorch needs on the same device for what `cuda_speed` times: the same lines, the same shapes."""

import statistics
import time

import torch
import torch.nn.functional as F

WARM, CALLS, TIMINGS = 3, 20, 9


def median(call):
    for _ in range(WARM):
        call()
    torch.cuda.synchronize()
    times = []
    for _ in range(TIMINGS):
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / CALLS)
    return statistics.median(times)


def line(name, seconds, operations=None, bytes=None, bandwidth=None):
    rate = f"{operations / seconds / 1e12:.1f} TFLOP/s" if operations else ""
    if bytes:
        rate = f"{bytes / seconds / 1e9:.0f} GB/s, {100 * bytes / seconds / bandwidth:.0f}% of a copy"
    print(f"{name}\t{1e6 * seconds:.1f} µs\t{rate}", flush=True)


def main():
    torch.backends.cuda.matmul.allow_tf32 = False
    print(f"PyTorch\t{torch.__version__}, CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}")
    x, y = (torch.empty(128 << 20, device="cuda") for _ in range(2))
    seconds = median(lambda: y.copy_(x))
    bandwidth = 2 * (512 << 20) / seconds
    line("copy", seconds, bytes=2 * (512 << 20), bandwidth=bandwidth)
    del x, y
    names = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
    for dtype, name in names.items():
        x = torch.randn(16384, 1024, device="cuda", dtype=dtype)
        w, b = (torch.randn(1024, device="cuda", dtype=dtype) for _ in range(2))
        moved = 2 * x.nbytes
        line(f"layer_norm 16384×1024 {name}", median(lambda: F.layer_norm(x, (1024,), w, b)), bytes=moved, bandwidth=bandwidth)
        line(f"softmax 16384×1024 {name}", median(lambda: F.softmax(x, -1)), bytes=moved, bandwidth=bandwidth)
        line(f"relu 16384×1024 {name}", median(lambda: F.relu(x)), bytes=moved, bandwidth=bandwidth)
        line(f"dropout 16384×1024 {name}", median(lambda: F.dropout(x, 0.1)), bytes=moved, bandwidth=bandwidth)
        logits = torch.randn(4096, 32000, device="cuda", dtype=dtype)
        targets = torch.arange(4096, device="cuda")
        loss = lambda: F.cross_entropy(logits, targets, label_smoothing=0.1, reduction="none")
        line(f"cross_entropy 4096×32000 {name}", median(loss), bytes=logits.nbytes, bandwidth=bandwidth)
        few = logits[:256]
        best = lambda: torch.topk(F.log_softmax(few, -1), 8)
        line(f"top_log_probabilities 256×32000 {name}, 8 best", median(best), bytes=few.nbytes, bandwidth=bandwidth)
        for m, n, k in [(4096, 4096, 1024), (256, 4096, 1024), (16, 4096, 1024)]:
            a, c, d = (torch.randn(*s, device="cuda", dtype=dtype) for s in [(m, k), (n, k), (n,)])
            line(f"linear {m}×{k}·{k}×{n} {name}", median(lambda: F.linear(a, c, d)), operations=2 * m * n * k)
    for size in [64, 128]:
        for batch, length in [(32, 512), (4, 4096)]:
            for causal in [False, True]:
                for dtype in [torch.float16, torch.bfloat16]:
                    q, k, v = (
                        torch.randn(batch, 16, length, size, device="cuda", dtype=dtype, requires_grad=True)
                        for _ in range(3)
                    )
                    mode = "causal" if causal else "full"
                    name = f"attention {batch}×{length}, 16 heads of {size}, {mode} {names[dtype]}"
                    product = 2 * batch * length * length * 16 * size * (0.5 if causal else 1)
                    with torch.no_grad():
                        seconds = median(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal))
                    line(name, seconds, operations=2 * product)
                    out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
                    gradient = torch.randn_like(out)
                    back = lambda: torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True)
                    line(f"{name}, gradient", median(back), operations=5 * product)


if __name__ == "__main__":
    main()
