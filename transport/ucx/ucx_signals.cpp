// SPDX-License-Identifier: Apache-2.0
// Which handlers are UCX's is told by where their code lies.
#include "transport/ucx/ucx_signals.hpp"

#include <ucs/debug/debug.h>

#include <csignal>
#include <cstdlib>
#include <dlfcn.h>

namespace kvferry {

namespace {

/// Where the library that has this code was loaded.
const void* library_of(const void* code) {
    Dl_info info{};
    return ::dladdr(code, &info) != 0 ? info.dli_fbase : nullptr;
}

const void* handler_of(int signal) {
    struct sigaction now {};
    if (::sigaction(signal, nullptr, &now) != 0)
        return nullptr;
    return (now.sa_flags & SA_SIGINFO) != 0 ? reinterpret_cast<const void*>(now.sa_sigaction)
                                            : reinterpret_cast<const void*>(now.sa_handler);
}

} // namespace

void give_signals_back() {
    for (const char* variable : {"UCX_HANDLE_ERRORS", "UCX_ERROR_SIGNALS", "UCX_DEBUG_SIGNO"})
        if (std::getenv(variable) != nullptr)
            return;
    const auto* ucs = library_of(reinterpret_cast<const void*>(&ucs_debug_disable_signal));
    for (int signal = 1; ucs != nullptr && signal < NSIG; ++signal)
        if (const auto* handler = handler_of(signal); handler && library_of(handler) == ucs)
            ucs_debug_disable_signal(signal);
}

} // namespace kvferry
