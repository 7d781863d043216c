// What a C++ program registered; see <cleanfork/template.hpp>.
#pragma once

#include <cleanfork/template.hpp>
#include <map>

#include "forkserver/template/host.hpp"

namespace cleanfork::templates {

class program_host final : public host {
public:
    // One a process: objects at namespace scope fill it before main.
    static program_host& instance();

    void add_entry(std::string name, std::function<int(call&)> f);
    void add_initializer(std::string name, std::function<void(call&)> f);
    void add_initialization(std::function<void()> f) { initialization_.push_back(std::move(f)); }
    void add_child_hook(std::function<void()> f) { child_hooks_.push_back(std::move(f)); }
    void close_in_children(int descriptor) { closed_.push_back(descriptor); }
    void initialize() const;

    [[nodiscard]] std::vector<std::string> entries() const override;
    void before_fork() override { flush(); }
    [[nodiscard]] std::vector<int> closed_descriptors() const override { return closed_; }
    [[nodiscard]] bool has_entry(std::string_view name) const override;
    [[nodiscard]] bool has_initializer(std::string_view name) const override;
    void in_child() override;
    int run(const task& t) override;
    void derive(const task& t) override;
    void flush() override;

private:
    std::map<std::string, std::function<int(call&)>, std::less<>> entries_;
    std::map<std::string, std::function<void(call&)>, std::less<>> initializers_;
    std::vector<std::function<void()>> initialization_;
    std::vector<std::function<void()>> child_hooks_;
    std::vector<int> closed_;
};

}  // namespace cleanfork::templates
