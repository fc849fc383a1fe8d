"""The rules that Holdfast's own packages use instead of Bazel's.

They hold the compiler options in one place and make the narrow choice the default: libraries are
visible to their own package only, tests are small, test doubles are said to be so by testonly.
"""

HF_COPTS = [
    "-Wall",
    "-Wextra",
    "-Wnon-virtual-dtor",
    "-Woverloaded-virtual",
    # Callbacks and overrides often ignore a parameter; naming it still says what it is.
    "-Wno-unused-parameter",
    # Assertions stay on in optimised builds: a backup program stops rather than writes nonsense.
    "-UNDEBUG",
]

_TEST_DEPS = ["//third_party/googletest"]

def hf_cc_library(name, copts = [], **kwargs):
    """A library, by default private to its package. Arguments as for cc_library."""
    native.cc_library(name = name, copts = HF_COPTS + copts, **kwargs)

def hf_cc_binary(name, copts = [], **kwargs):
    """A program. Arguments as for cc_binary."""
    native.cc_binary(name = name, copts = HF_COPTS + copts, **kwargs)

def hf_cc_test(name, copts = [], deps = [], size = "small", **kwargs):
    """A GoogleTest program; GoogleTest, GoogleMock and a main function are linked by default.

    Tag it "manual" if it needs something the machine may lack, "long" if it takes minutes.
    Arguments as for cc_test.
    """
    native.cc_test(
        name = name,
        copts = HF_COPTS + copts,
        size = size,
        deps = deps + [dep for dep in _TEST_DEPS if dep not in deps],
        **kwargs
    )

def hf_cc_benchmark(name, copts = [], deps = [], **kwargs):
    """A Google Benchmark program, run by hand with `bazel run`."""
    native.cc_binary(
        name = name,
        testonly = True,
        copts = HF_COPTS + copts,
        deps = deps + ["//third_party/benchmark"],
        **kwargs
    )

# --- Protocol Buffers and gRPC --------------------------------------------------------------------

_ProtoInfo = provider(
    doc = "The .proto files of a target and of everything it imports.",
    fields = {"transitive_srcs": "depset of File"},
)

def _protoc_impl(ctx):
    imports = depset(
        ctx.files.srcs,
        transitive = [dep[_ProtoInfo].transitive_srcs for dep in ctx.attr.deps],
    )
    suffixes = [".grpc.pb.h", ".grpc.pb.cc"] if ctx.attr.grpc else [".pb.h", ".pb.cc"]
    outs = []
    for src in ctx.files.srcs:
        if not src.basename.endswith(".proto"):
            fail("%s is not a .proto file" % src.path)
        stem = src.basename[:-len(".proto")]
        outs += [ctx.actions.declare_file(stem + suffix) for suffix in suffixes]

    args = ctx.actions.args()

    # Imports are written from the root of the workspace: import "proto/holdfast/v1/x.proto".
    args.add("-I.")
    if ctx.attr.grpc:
        args.add("--plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin")
        args.add("--grpc_out=" + ctx.bin_dir.path)
    else:
        args.add("--cpp_out=" + ctx.bin_dir.path)
    args.add_all(ctx.files.srcs)
    ctx.actions.run(
        executable = "/usr/bin/protoc",
        arguments = [args],
        inputs = imports,
        outputs = outs,
        mnemonic = "Protoc",
        progress_message = "Generating C++ from %s" % ctx.label,
    )
    return [
        DefaultInfo(files = depset(outs)),
        OutputGroupInfo(
            hdrs = depset([f for f in outs if f.extension == "h"]),
            srcs = depset([f for f in outs if f.extension == "cc"]),
        ),
        _ProtoInfo(transitive_srcs = imports),
    ]

_protoc = rule(
    implementation = _protoc_impl,
    attrs = {
        "srcs": attr.label_list(allow_files = [".proto"], mandatory = True),
        "deps": attr.label_list(providers = [_ProtoInfo]),
        "grpc": attr.bool(),
    },
)

def _protoc_label(label):
    """The label of the _protoc target that belongs to an hf_cc_proto_library."""
    if ":" not in label:
        label += ":" + label.split("/")[-1]
    return label + "_protoc"

def _generated_cc_library(name, srcs, deps, protoc_deps, extra_deps, grpc, **kwargs):
    visibility = kwargs.get("visibility")
    testonly = kwargs.get("testonly", False)
    _protoc(
        name = name + "_protoc",
        srcs = srcs,
        deps = protoc_deps,
        grpc = grpc,
        visibility = visibility,
        testonly = testonly,
        tags = ["manual"],
    )
    for group in ["hdrs", "srcs"]:
        native.filegroup(
            name = "%s_%s" % (name, group),
            srcs = [":%s_protoc" % name],
            output_group = group,
            visibility = ["//visibility:private"],
            testonly = testonly,
            tags = ["manual"],
        )
    native.cc_library(
        name = name,
        srcs = [":%s_srcs" % name],
        hdrs = [":%s_hdrs" % name],
        # Generated code is not ours to clean up.
        copts = ["-w"],
        deps = deps + extra_deps,
        **kwargs
    )

def hf_cc_proto_library(name, srcs, deps = [], **kwargs):
    """C++ classes of .proto files: #include "proto/holdfast/v1/x.pb.h".

    Args:
      name: the library.
      srcs: .proto files; they may import each other, by their path from the workspace root.
      deps: the hf_cc_proto_library targets they import from. Google's well-known types need none.
      **kwargs: as for cc_library.
    """
    _generated_cc_library(
        name = name,
        srcs = srcs,
        deps = deps,
        protoc_deps = [_protoc_label(dep) for dep in deps],
        extra_deps = ["//third_party/protobuf"],
        grpc = False,
        **kwargs
    )

def hf_cc_grpc_library(name, srcs, deps, **kwargs):
    """gRPC services of .proto files: #include "proto/holdfast/v1/x.grpc.pb.h".

    Args:
      name: the library.
      srcs: the .proto files that define services.
      deps: the hf_cc_proto_library of the same files, and those that they import from.
      **kwargs: as for cc_library.
    """
    _generated_cc_library(
        name = name,
        srcs = srcs,
        deps = deps,
        protoc_deps = [_protoc_label(dep) for dep in deps],
        extra_deps = ["//third_party/grpc"],
        grpc = True,
        **kwargs
    )
