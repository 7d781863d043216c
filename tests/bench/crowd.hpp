// Many children at once, and what starting children costs its caller's own work.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cleanfork/client.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/bench/goals.hpp"

namespace bench {

// 1,000 calls of a template at once against 1,000 forks of this process: until all run, and the
// private memory of one.
nlohmann::json crowd(const cleanfork::client& client, boost::asio::io_context& io, goals& judged);

// A thread of a parent with 256 MiB works on while another starts `program` again and again.
nlohmann::json callers_tail(const cleanfork::client& client, const std::string& program,
                            std::size_t rounds, goals& judged);

}  // namespace bench
