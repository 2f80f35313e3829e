// The client in C++ with Boost.Asio: asio HOST PATH prints the answer.

#include <boost/asio.hpp>
#include <iostream>
#include <string>

using boost::asio::ip::tcp;

int main(int, char **arguments)
{
    const std::string host = arguments[1], path = arguments[2];
    boost::asio::io_context context;
    tcp::socket socket(context);
    boost::asio::connect(socket, tcp::resolver(context).resolve(host, "http"));
    boost::asio::write(socket, boost::asio::buffer("GET " + path + " HTTP/1.0\r\nHost: " + host + "\r\n\r\n"));

    std::string answer;
    boost::system::error_code end;
    boost::asio::read(socket, boost::asio::dynamic_buffer(answer), end);
    if (end != boost::asio::error::eof)
        throw boost::system::system_error(end);
    const auto body = answer.find("\r\n\r\n");
    if (body == std::string::npos)
        throw std::runtime_error("no HTTP answer");
    std::cout << answer.substr(body + 4);
}
