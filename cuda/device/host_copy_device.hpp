// SPDX-License-Identifier: Apache-2.0
// The host twin of a device: the kernel's own lines, run by the processor on host memory.
#pragma once

#include "cuda/device/copy_device.hpp"

#include <deque>
#include <vector>

namespace kvferry {

/// For tests and the simulation of cuda_io; on a machine without CUDA, real transfers use copy_io.
/// Each take_ended() copies one launch, so that work is in flight as on a device.
class host_copy_device : public copy_device {
public:
    const std::string& name() const override { return name_; }
    caf::error enter_thread() override { return {}; }
    caf::expected<std::unique_ptr<uploaded_plan>> upload(const copy_job&,
                                                         const copy_manner&) override;
    caf::error launch(uploaded_plan&, std::uint64_t first_unit, std::uint64_t unit_count, copy_lane,
                      std::uint64_t number) override;
    caf::error take_ended(std::vector<std::uint64_t>& numbers) override;
    caf::error lost() override { return {}; }

    caf::expected<exported_region> export_region(std::byte* base, std::uint64_t bytes) override;
    caf::expected<std::byte*> map(const memory_region&, const device_chunks&) override;
    void unmap(const memory_region&, std::byte*) override {}
    caf::error pin(std::byte*, std::uint64_t) override { return {}; }
    void unpin(std::byte*) override {}
    /// An event is a std::atomic<bool>.
    caf::expected<bool> has_happened(void* event) override;
    caf::error record(copy_lane, void* event) override;

private:
    struct launched {
        uploaded_plan* plan = nullptr;
        std::uint64_t first_unit = 0;
        std::uint64_t end_unit = 0;
        std::uint64_t number = 0;
        std::vector<void*> events = {};
    };

    std::string name_ = "host twin";
    std::deque<launched> launched_;
};

} // namespace kvferry
