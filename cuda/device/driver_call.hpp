// SPDX-License-Identifier: Apache-2.0
// Calls of the driver that the runtime lacks, looked up by name when they are first needed. Needs
// the toolkit's headers.
#pragma once

#include "messages/errors.hpp"

#include <cuda.h>

namespace kvferry {

/// CU_MEM_HANDLE_TYPE_FABRIC, which headers before CUDA 12.3 do not have.
inline constexpr auto handle_type_fabric = static_cast<CUmemAllocationHandleType>(8);

/// unsupported when the driver has no such entry (as of CUDA 12.0).
caf::expected<void*> driver_entry(const char* name);

/// "call: CUDA_ERROR_NAME: text".
caf::error driver_error(const char* call, CUresult);

/// A call of the driver: an empty error is its success. Made by KVFERRY_DRIVER_CALL(cuMemMap).
template <class Call>
class driver_call {
public:
    explicit driver_call(const char* name) : name_(name) {}

    template <class... Arguments>
    caf::error operator()(Arguments... arguments) const {
        auto entry = driver_entry(name_);
        if (!entry)
            return std::move(entry.error());
        const auto status = reinterpret_cast<Call>(*entry)(arguments...);
        return status == CUDA_SUCCESS ? caf::error{} : driver_error(name_, status);
    }

private:
    const char* name_;
};

/// Of the name as it is written, although cuda.h renames some of its functions by macros.
#define KVFERRY_DRIVER_CALL(name)                                                                  \
    kvferry::driver_call<decltype(&name)> {                                                        \
#name                                                                                      \
    }

} // namespace kvferry
