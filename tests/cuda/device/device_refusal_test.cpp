// SPDX-License-Identifier: Apache-2.0
// A device without free memory is refused with that reason, whichever call found out.
#include "cuda/device/device_refusal.hpp"
#include "tests/support/contains.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

caf::error failure(const char* text) {
    return make_error(errc::cuda_failed, text);
}

constexpr device_memory_left full{3 << 20, std::uint64_t{143771} << 20};
constexpr device_memory_left empty{std::uint64_t{140000} << 20, std::uint64_t{143771} << 20};

} // namespace

TEST_CASE("device refusal: any call that finds no memory leads to the same reason, with numbers") {
    for (const auto* cause :
         {"cudaSetDevice: cudaErrorMemoryAllocation: out of memory",
          "cudaHostAlloc(8388608): cudaErrorMemoryAllocation: out of memory",
          "cudaStreamCreateWithPriority: cudaErrorUnknown: unknown error",
          "launch of the copy kernel: cudaErrorLaunchOutOfResources: too many resources"}) {
        const auto refused = explain_refusal(2, failure(cause), full);
        CHECK(code_of(refused) == errc::cuda_failed);
        CHECK(contains(text_of(refused), "device cuda:2 has no free memory for what a rank needs"));
        CHECK(contains(text_of(refused), "3 of 143771 MiB are free"));
        CHECK(contains(text_of(refused), cause));
    }
    const auto silent =
        explain_refusal(0, failure("cudaSetDevice: cudaErrorMemoryAllocation: out of memory"), {});
    CHECK(contains(text_of(silent), "no free memory for what a rank needs"));
}

TEST_CASE("device refusal: another reason is not taken for a lack of memory") {
    const auto refused =
        explain_refusal(0, failure("cudaSetDevice: cudaErrorInvalidDevice: invalid"), empty);
    CHECK(text_of(refused) == "device cuda:0: cudaSetDevice: cudaErrorInvalidDevice: invalid");
    CHECK_FALSE(
        contains(text_of(explain_refusal(0, failure("cudaStreamCreate: cudaErrorUnknown: x"), {})),
                 "no free memory"));
}
