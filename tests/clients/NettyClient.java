import io.netty.bootstrap.Bootstrap;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioDatagramChannel;
import io.netty.channel.socket.nio.NioSocketChannel;
import io.netty.buffer.ByteBuf;
import io.netty.resolver.dns.DnsAddressResolverGroup;
import io.netty.resolver.dns.DnsNameResolverBuilder;
import io.netty.util.ReferenceCountUtil;

import java.net.URI;

import static java.nio.charset.StandardCharsets.UTF_8;

/** netty with its own resolver: NettyClient URL prints the answer. */
class NettyClient {
    public static void main(String[] arguments) throws Exception {
        URI uri = URI.create(arguments[0]);
        var resolver = new DnsNameResolverBuilder().channelType(NioDatagramChannel.class);
        var group = new NioEventLoopGroup(1);
        var connected = new Bootstrap()
                .group(group)
                .channel(NioSocketChannel.class)
                .resolver(new DnsAddressResolverGroup(resolver))
                .handler(new Printer())
                .connect(uri.getHost(), 80)
                .sync();
        var request = "GET " + uri.getPath() + "?" + uri.getQuery() + " HTTP/1.0\r\nHost: " + uri.getHost() + "\r\n\r\n";
        connected.channel().writeAndFlush(Unpooled.copiedBuffer(request, UTF_8));
        connected.channel().closeFuture().sync();
        group.shutdownGracefully(0, 0, java.util.concurrent.TimeUnit.SECONDS).sync();
    }

    /** Prints what comes, but for the header, which has the time. */
    private static class Printer extends ChannelInboundHandlerAdapter {
        private final StringBuilder reply = new StringBuilder();

        @Override
        public void channelRead(ChannelHandlerContext context, Object message) {
            reply.append(((ByteBuf) message).toString(UTF_8));
            ReferenceCountUtil.release(message);
        }

        @Override
        public void channelInactive(ChannelHandlerContext context) {
            System.out.print(reply.substring(reply.indexOf("\r\n\r\n") + 4));
        }
    }
}
